"""AxialBranch against its formula at any size."""

from __future__ import annotations

import pytest
import torch

from custom_networks.blocks import AxialBranch
from tests.modules import randomised
from tests.references import axial as axial_references

SMALL = {"features": (4, 8, 12), "num_units": (1, 2), "num_heads": 2, "token_grid": 4}
NORMS = {"batch": "batch", "instance": ("instance", {"affine": True})}


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS.keys())
@pytest.mark.parametrize(
    ("size", "options", "pool"),
    [
        ((7, 10, 5), {}, None),
        ((9, 6), {"bottom": False}, None),
        ((6, 9, 8), {"form": "released", "stem_pool": (1, 2, 1)}, (1, 2, 1)),
        ((7, 10, 5), {"stem_skip": True}, None),
        ((7, 10, 5), {"decoder_norm": True}, None),
        ((9, 10, 5), {"stem_convolutions": 3, "stem_skip": True}, None),
        ((6, 9, 8), {"stem_skip": True, "decoder_norm": True, "strides": (1, 2), "stem_pool": 2}, (2, 2, 2)),
    ],
    ids=[
        "odd",
        "no bottom",
        "pooled and released",
        "skip",
        "normalised",
        "three convolutions",
        "skip on the image's grid",
    ],
)
def test_equals_the_formula_at_any_size(size, options, pool, norm, training):
    branch = randomised(AxialBranch(len(size), 2, norm=norm, **SMALL | options), 0.3).train(training)
    state = {name: value.clone() for name, value in branch.state_dict().items()}
    x = torch.randn(2, 2, *size, dtype=torch.float64)
    released = options.get("form") == "released"
    strides = [(step,) * len(size) for step in options.get("strides", (2, 2))]
    want = axial_references.axial_branch(x, state, strides, 2, pool=pool, released=released, training=training)
    got = branch(x)
    assert [y.shape[1] for y in got] == [8, 4]
    assert got[-1].shape[2:] == size
    for y, z in zip(got, want, strict=True):
        torch.testing.assert_close(y, z, rtol=1e-7, atol=1e-7)
    for name, buffer in branch.named_buffers():
        torch.testing.assert_close(buffer, state[name], msg=lambda m, n=name: n + m)
