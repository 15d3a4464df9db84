"""What ``is_thin`` lets torch compute in bfloat16 is right, in a process of its own, which torch's faults may end.

What it does not is wrong on some processors and with some numbers of channels: docs/decisions/mixed-precision.md.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from custom_networks.workflow.infer.inferers import has_bfloat16

RIGHT, WRONG = "right", "wrong"
# the gradient of the weights in bfloat16 beside that in float32; it is off by 0.3 % where it is right
SCRIPT = """
import sys
import torch
torch.set_num_threads(1)
first, second, kernel = map(int, sys.argv[1:])
image = torch.randn(2, 16, first, second, 8)
layer = torch.nn.Conv3d(16, 16, kernel, padding=kernel // 2)
up, gradients = torch.randn(2, 16, first, second, 8), []
for half in (False, True):
    layer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        result = layer(image)
    (result.float() * up).sum().backward()
    gradients.append(layer.weight.grad.clone())
error = (gradients[1] - gradients[0]).norm() / gradients[0].norm()
print("right" if error < 0.05 else "wrong", flush=True)
"""

native = pytest.mark.skipif(
    not has_bfloat16(torch.device("cpu")), reason="this processor does not compute in bfloat16; nothing to see"
)


def gradient(first: int, second: int, kernel: int) -> str:
    command = [sys.executable, "-c", SCRIPT, str(first), str(second), str(kernel)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stdout.strip() or WRONG  # it may end before it says so


@native
@pytest.mark.parametrize(("first", "second", "kernel"), [(3, 1, 3), (8, 2, 3), (5, 2, 5), (7, 3, 7)])
def test_what_is_trusted_is_right(first, second, kernel):
    assert gradient(first, second, kernel) == RIGHT
