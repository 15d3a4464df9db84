"""The bill against the measured growth of a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads the resident size from /proc"),
]

COMMON = """
import resource
import torch
from monai.data import MetaTensor
from monai.losses import DiceCELoss
from torch import nn
from custom_networks.nets import AttentionUnet, TransUnet
from custom_networks.workflow import MirrorSlidingWindowInferer
from custom_networks.workflow.memory.bill import inference_bill, training_bill
torch.set_num_threads(1)
NETS = {
    "AttentionUnet": lambda k: AttentionUnet(3, 1, k, features=(16, 32, 64), attention=("gate",)),
    "TransUnet": lambda k: TransUnet(3, 1, k, features=(16, 32, 64, 128), num_layers=2, num_heads=4, root_level=0),
}
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
def peak():
    # not ru_maxrss, which begins with that of the process that started this one
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith("VmHWM")).split()[1]) * 1024
"""
TRAINING = """
net = NETS[{net!r}](3)
bill = training_bill(net, in_channels=1, patch_size=(64, 64, 64), batch_size=2, amp=False)
loss, optimizer = DiceCELoss(to_onehot_y=True, softmax=True), torch.optim.AdamW(net.parameters())
before = resident()
for _ in range(2):
    image, label = torch.rand(2, 1, 64, 64, 64), torch.randint(0, 3, (2, 1, 64, 64, 64)).float()
    optimizer.zero_grad()
    loss(net(image), label).backward()
    optimizer.step()
print(sum(bill.values()), peak() - before)
"""
INFERENCE = """
from monai.transforms import Activationsd, AsDiscreted, Compose, Flipd, Invertd
net = NETS[{net!r}](8)
bill = inference_bill(net, (192, 192, 192), in_channels=1, out_channels=8, patch_size=(64, 64, 64), amp=False,
                      low_memory={low})
inferer = MirrorSlidingWindowInferer((64, 64, 64), amp=False, low_memory={low}, overlap=0.0, mode="gaussian")
before = resident()
flip = Flipd("image", 0)
case = flip({{"image": MetaTensor(torch.rand(1, 192, 192, 192))}})
with torch.no_grad():
    case["pred"] = inferer(case["image"][None], net.eval())[0]
steps = [Activationsd("pred", softmax=True)] * (not {low}) + [
    Invertd("pred", flip, orig_keys="image", nearest_interp={low})] + [AsDiscreted("pred", argmax=True)] * (not {low})
Compose(steps)(case)
print(sum(bill.values()), peak() - before)
"""
LARGE = """
from monai.transforms import Compose, Flipd, Invertd
net = nn.Conv3d(1, 5, 3, padding=1).eval()
size, window = (512, 512, 600), (128, 128, 128)
bill = inference_bill(net, size, in_channels=1, out_channels=5, patch_size=window, amp=False, low_memory=True)
inferer = MirrorSlidingWindowInferer(window, amp=False, low_memory=True, skip_air=True, overlap=0.0, mode="gaussian")
before = resident()
flip = Flipd("image", 0)
image = torch.zeros(1, *size)
image[:, 100:400, 120:420, 20:580].uniform_(1, 2)
case = flip({"image": MetaTensor(image)})
del image
with torch.no_grad():
    case["pred"] = inferer(case["image"][None], net)[0]
case = Invertd("pred", flip, orig_keys="image", nearest_interp=True)(case)
assert tuple(case["pred"].shape) == (1, *size)
assert not case["pred"][:, :90].any()
print(sum(bill.values()), peak() - before, peak())
"""


def figures(script: str) -> tuple[int, ...]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", COMMON + script], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return tuple(map(int, done.stdout.split()))


@pytest.mark.parametrize("net", ["AttentionUnet", "TransUnet"])
@pytest.mark.parametrize("script", [TRAINING, INFERENCE], ids=["training", "inference"])
def test_the_bill_is_within_30_percent(net, script):
    bill, measured = figures(script.format(net=net, low=False))
    assert measured > 200e6
    assert 0.7 < bill / measured < 1.3, f"bill {bill / 1e6:.0f} MB, measured {measured / 1e6:.0f} MB"


def test_low_memory_is_billed_and_saves():
    bill, measured = figures(INFERENCE.format(net="AttentionUnet", low=True))
    _, normal = figures(INFERENCE.format(net="AttentionUnet", low=False))
    assert 0.7 < bill / measured < 1.3, f"bill {bill / 1e6:.0f} MB, measured {measured / 1e6:.0f} MB"
    assert measured < 0.7 * normal


def test_a_whole_body_fits_in_8_gigabytes():
    bill, measured, whole = figures(LARGE)
    assert whole < 8e9
    assert 0.7 < bill / measured < 1.3, f"bill {bill / 1e6:.0f} MB, measured {measured / 1e6:.0f} MB"
