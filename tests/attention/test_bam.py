"""Bam against its formula, repaired reference outputs and its own documentation."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from custom_networks.attention.bam import Bam
from tests.modules import randomised
from tests.references import layers as references
from tests.references.oracles import compare_with_oracle

INSTANCE = ("instance", {"affine": True})


def formula(x, state, dilation):
    """y = x + sigmoid(LN(W1 relu(W0 mean + b0) + b1) + norm(f3 relu f2 relu f1 relu f0 x)) x."""
    column = (-1, *(1,) * (x.dim() - 2))
    mean = torch.stack([torch.stack([channel.mean() for channel in sample]) for sample in x])
    hidden = (mean @ state["channel.0.weight"].T + state["channel.0.bias"]).clamp(min=0)
    channel = hidden @ state["channel.2.weight"].T + state["channel.2.bias"]
    channel = channel - channel.mean(1, keepdim=True)
    channel = channel / ((channel**2).mean(1, keepdim=True) + 1e-5).sqrt()
    channel = channel * state["channel.3.weight"] + state["channel.3.bias"]
    s = references.pointwise(x, state, "spatial.0")
    for name in ("spatial.2", "spatial.4"):
        s = references.convolve(s.clamp(min=0), state[f"{name}.weight"], dilation) + state[f"{name}.bias"].view(column)
    s = references.pointwise(s.clamp(min=0), state, "spatial.6")
    if "spatial.7.weight" in state:
        s = references.normalise(s, state, "spatial.7")
    gate = 1 / (1 + torch.exp(-channel.reshape(*channel.shape, *column[1:]) - s))
    return x + gate * x


@pytest.mark.parametrize("size", [(4, 6, 5), (3, 1, 7), (5, 4)], ids=str)
@pytest.mark.parametrize("norm", [INSTANCE, "batch", None], ids=["instance", "batch", "no-norm"])
@pytest.mark.parametrize(("channels", "reduction", "dilation"), [(16, 4, 4), (10, 3, 1), (8, 8, (1, 2, 3))], ids=str)
def test_equals_the_formula(size, norm, channels, reduction, dilation):
    dims = len(size)
    dilation = dilation if isinstance(dilation, int) else dilation[:dims]
    module = randomised(Bam(dims, channels, reduction=reduction, dilation=dilation, norm=norm))
    x = torch.randn(2, channels, *size, dtype=torch.float64)
    torch.testing.assert_close(module(x), formula(x, module.state_dict(), dilation), rtol=1e-10, atol=1e-10)


def test_attention_map_is_the_gate():
    module = randomised(Bam(3, 8))
    x = torch.randn(2, 8, 4, 5, 3, dtype=torch.float64)
    gate = module.attention_map(x)
    assert gate.shape == x.shape
    assert gate.min() > 0 and gate.max() < 1
    torch.testing.assert_close(module(x), x + gate * x)


@pytest.mark.parametrize(
    ("dims", "channels", "reduction", "norm", "h"),
    [(3, 16, 4, INSTANCE, 4), (2, 16, 2, "batch", 8), (3, 3, 8, None, 1)],
    ids=["default", "2d", "no-norm"],
)
def test_parameter_count(dims, channels, reduction, norm, h):
    module = Bam(dims, channels, reduction=reduction, norm=norm)
    want = 3 * channels * (h + 1) + h + 2 * h * (3**dims * h + 1) + 2 * h + (1 if norm is None else 2)
    assert sum(p.numel() for p in module.parameters()) == want


BAD = {
    "dims": ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1; reshape"),
    "reduction": ({"reduction": 0}, "reduction must be at least 1, got 0; use 1"),
    "dilation": ({"dilation": (2, 2)}, r"dilation must be a positive integer or 3 positive integers, got \(2, 2\)"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Bam(**{"spatial_dims": 3, "in_channels": 16} | kwargs)


def like_the_original(dims: int) -> Bam:
    """Patch in what the original has: three hidden layers per branch, batch norm after each of them, none at the end.

    The original is the one that pads by the dilation; ours brings its dilated convolution, the sum of the branches,
    the gate and the added input.
    """
    module = Bam(dims, 16, reduction=4, dilation=2, norm=None)
    batch_norm = (nn.BatchNorm2d, nn.BatchNorm3d)[dims - 2]
    channel: list[nn.Module] = []
    for width in (16, 4, 4):
        channel += [nn.Linear(width, 4), nn.BatchNorm1d(4), nn.ReLU()]
    module.channel = nn.Sequential(*channel, nn.Linear(4, 16))
    first, dilated, last = module.spatial[0], module.spatial[2], module.spatial[6]
    spatial: list[nn.Module] = []
    for convolution in (first, *(copy.deepcopy(dilated) for _ in range(3))):
        spatial += [convolution, batch_norm(4), nn.ReLU()]
    module.spatial = nn.Sequential(*spatial, last)
    return module


def names_of_the_original(dims: int):
    table = {"sa.sa.conv_reduce1": "spatial.0", "sa.sa.bn_reduce1": "spatial.1", "sa.sa.last_conv": "spatial.12"}
    table["ca.ca.last_fc"] = "channel.9"
    for i in range(3):
        table[f"ca.ca.fc{i}"], table[f"ca.ca.bn{i}"] = f"channel.{3 * i}", f"channel.{3 * i + 1}"
        table[f"sa.sa.conv_{i}"], table[f"sa.sa.bn_{i}"] = f"spatial.{3 * i + 3}", f"spatial.{3 * i + 4}"

    def names(state: dict) -> dict:
        renamed = {}
        for key, value in state.items():
            stem, _, last = key.rpartition(".")
            if dims == 3 and value.dim() == 4 and value.shape[-1] == 3:  # a slice before and after meet only zeros
                value = nn.functional.pad(value.unsqueeze(2), (0, 0, 0, 0, 1, 1))
            renamed[f"{table[stem]}.{last}"] = value
        return renamed

    return names


@pytest.mark.parametrize("dims", [2, 3])
def test_original_padded_by_the_dilation(oracle, dims):
    compare_with_oracle(like_the_original(dims), oracle("bam_fixed"), names_of_the_original(dims), lifted=dims == 3)


def test_is_not_the_original_that_does_not_pad(oracle):
    """The released original shrinks its map by the dilated convolutions to one voxel, so its gate has no place left."""
    reference = oracle("bam_7x7")
    module = like_the_original(2).eval()
    module.load_state_dict(names_of_the_original(2)(reference["state_dict"]))
    (x,), (theirs,) = reference["inputs"], reference["output_eval"]
    their_gate = theirs / x - 1
    gate = module.attention_map(x)
    assert their_gate.std((2, 3)).max() < 1e-4
    assert gate.std((2, 3)).mean() > 1e-2
    assert (module(x) - theirs).abs().max() > 1e-2
