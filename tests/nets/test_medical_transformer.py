"""MedicalTransformer against a functional forward, window by window, and its own documentation."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from custom_networks.blocks import GatedAxialAttention
from custom_networks.nets import MedicalTransformer
from tests.modules import randomised
from tests.nets.test_axial_unet import count
from tests.references import axial as axial_references

SMALL = {"features": (4, 8, 12, 16), "num_units": (1, 2, 1), "strides": (2, 2, 1), "num_heads": 2, "token_grid": 4}
STEPS = [(2, 2, 2), (2, 2, 2), (1, 1, 1)]
CASES = {
    "by size": ((8, 16, 8), {"window_size": 8}, STEPS, (8, 8, 8)),
    "cut off": ((8, 12, 16), {"window_size": (4, 8, 10)}, STEPS, (4, 8, 12)),
    "one unit": ((4, 8, 16), {"window_size": 2}, STEPS, (4, 4, 8)),
    "by number": ((8, 16, 12), {"window_grid": (2, 3, 1)}, STEPS, (4, 8, 12)),
    "2d": ((8, 12), {"window_grid": 2}, [(2, 2), (2, 2), (1, 1)], (4, 8)),
    "released": ((8, 8, 16), {"window_size": 8, "form": "released"}, STEPS, (8, 8, 8)),
    "LoGo": ((8, 8, 16), {"window_size": 8, "form": "ungated", "local_form": "ungated"}, STEPS, (8, 8, 8)),
    "no attention": ((8, 8, 16), {"window_size": 8, "attention": ()}, STEPS, (8, 8, 8)),
    "global attention": ((8, 8, 16), {"window_size": 8, "attention": ("global",)}, STEPS, (8, 8, 8)),
    "global": ((8, 8, 16), {"branches": ("global",)}, STEPS, (8, 8, 8)),
    "local": ((8, 8, 16), {"branches": ("local",), "window_size": 8}, STEPS, (8, 8, 8)),
    "skips": (
        (8, 8, 16),  # wider: two channels are easily both negative everywhere, and a norm makes noise of that
        {"window_size": 8, "stem_convolutions": 2, "stem_skip": True, "decoder_norm": True, "features": (8, 8, 12, 16)},
        STEPS,
        (8, 8, 8),
    ),
    "anisotropic": (
        (3, 8, 12),
        {"strides": [(1, 2, 2), (1, 2, 1), (1, 1, 2)], "kernel_size": [(1, 3, 3), 3, 3, 1], "window_size": (2, 8, 4)},
        [(1, 2, 2), (1, 2, 1), (1, 1, 2)],
        (2, 8, 4),
    ),
}


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("norm", ["batch", ("instance", {"affine": True})], ids=["batch", "instance"])
@pytest.mark.parametrize(("size", "kwargs", "strides", "window"), CASES.values(), ids=CASES.keys())
def test_equals_the_functional_forward(size, kwargs, strides, window, norm, training):
    net = randomised(MedicalTransformer(len(size), 2, 3, norm=norm, **SMALL | kwargs), 0.3).train(training)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    x = torch.randn(2, 2, *size, dtype=torch.float64)
    released = kwargs.get("form") == "released"
    options = {"released": released, "training": training, "together": norm == "batch" and training}
    want = axial_references.medical_transformer(x, state, strides, 2, window, **options)
    assert want.shape[1] == 1
    torch.testing.assert_close(net(x), want[:, 0], rtol=1e-6, atol=1e-6)
    for name, buffer in net.named_buffers():
        torch.testing.assert_close(buffer, state[name], rtol=1e-6, atol=1e-7, msg=lambda m, n=name: n + m)


class _InTurn(nn.Module):
    """A branch through which the windows of a batch pass one after the other, as in the released code."""

    def __init__(self, branch: nn.Module, windows: int) -> None:
        super().__init__()
        self.branch, self.windows = branch, windows

    def forward(self, x: Tensor) -> list[Tensor]:
        return [torch.cat(maps) for maps in zip(*map(self.branch, x.chunk(self.windows)), strict=True)]


@pytest.mark.parametrize("local_form", ["position_free", "released"])
def test_released_batch_statistics_are_those_of_windows_in_turn(local_form):
    """They are no option, only a wrapper away: what "Differs from the paper" says of batch norm, and nothing else."""
    options = {"window_size": 8, "norm": "batch", "form": "released", "local_form": local_form}
    net = randomised(MedicalTransformer(3, 2, 3, **SMALL | options), 0.3).train()
    in_turn, state = copy.deepcopy(net), {name: value.clone() for name, value in net.state_dict().items()}
    in_turn.local_branch = _InTurn(in_turn.local_branch, 2)
    x = torch.randn(2, 2, 8, 8, 16, dtype=torch.float64)
    want = axial_references.medical_transformer(x, state, STEPS, 2, (8, 8, 8), released=True, training=True)[:, 0]
    torch.testing.assert_close(in_turn(x), want, rtol=1e-6, atol=1e-6)
    for name, buffer in in_turn.named_buffers():
        expected = state[name.replace("local_branch.branch", "local_branch")]
        torch.testing.assert_close(buffer, expected, rtol=1e-6, atol=1e-7, msg=lambda m, n=name: n + m)
    assert (net(x) - want).abs().max() > 0.01


def test_deep_supervision_equals_the_functional_forward():
    net = randomised(MedicalTransformer(3, 1, 3, **SMALL, window_size=8, global_levels=3, deep_supervision=True), 0.3)
    x = torch.randn(1, 1, 16, 8, 8, dtype=torch.float64)
    want = axial_references.medical_transformer(x, net.state_dict(), STEPS, 2, (8, 8, 8), global_levels=3)
    assert want.shape == (1, 3, 3, 16, 8, 8)
    torch.testing.assert_close(net.train()(x), want, rtol=1e-7, atol=1e-7)


def test_tables_of_the_branches():
    for kwargs, lengths in ({"window_size": 8}, [4, 4, 2]), ({"window_grid": 2}, [4, 4, 2]):
        net = MedicalTransformer(**SMALL | {"token_grid": 8} | kwargs, local_form="gated")
        layers = [m for m in net.global_branch.modules() if isinstance(m, GatedAxialAttention)]
        assert [(len(m.table) + 1) // 2 for m in layers[::3]] == [8, 8, 4]
        layers = [m for m in net.local_branch.modules() if isinstance(m, GatedAxialAttention)]
        assert [(len(m.table) + 1) // 2 for m in layers[::3]] == [*lengths, 2]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(
    ("kwargs", "rest", "fuse"),
    [
        ({}, {}, 0),
        ({"deep_supervision": True}, {"deep": 1}, 0),
        ({"stem_skip": True, "decoder_norm": True}, {"skip": True, "norms": True}, 2 * 4),
        ({"stem_convolutions": 3}, {"readers": 3}, 0),
    ],
    ids=["plain", "deep", "norms", "convolutions"],
)
def test_parameter_count(dims, kwargs, rest, fuse):
    f, units = (4, 8, 16, 32), (2, 1, 2)
    net = MedicalTransformer(dims, 2, 5, features=f, num_units=units, num_heads=4, token_grid=8, **kwargs)
    want = count(dims, f[:3], 2, 5, units[:2], 8, num_heads=4, bottom=False, **rest)
    want += count(dims, f, 2, 0, units, 8, num_heads=4, positions=False, **{**rest, "deep": 0})
    assert sum(p.numel() for p in net.parameters()) == want + 3**dims * f[0] ** 2 + f[0] + fuse


@pytest.mark.parametrize(
    ("form", "local_form", "published", "unused"),
    [("gated", "position_free", 1_553_084, 35_536 + 8 * 2 * 8), ("ungated", "ungated", 1_522_476, 8 * 2 * 24)],
)
def test_the_default_in_2d_is_the_network_of_the_paper(form, local_form, published, unused):
    """At 128x128, but for what is unused there (34 of a head, shifts of logits, idle convolutions) and a stem's width.

    The published local stem has 64 channels, the width that the global branch happens to end with, instead of 8.
    """
    net = MedicalTransformer(2, 1, 2, form=form, local_form=local_form, token_grid=64, window_size=32)
    wide = (64 - 8) * (7**2 + 2 * 9 * 128 + 4 + 16 + 32)
    unused += 34 + 3 * 2 * 24
    assert sum(p.numel() for p in net.parameters()) == published - wide - unused


@pytest.mark.parametrize(("size", "kwargs"), [((8, 20, 12), {}), ((12, 40, 24), {"window_grid": 2})], ids=str)
def test_forward_and_backward_at_any_size(size, kwargs):
    torch.manual_seed(0)
    net = MedicalTransformer(**SMALL | {"num_units": (1, 1, 1)} | kwargs, checkpointing=True)
    net(torch.randn(1, 1, *size)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


BAD = {
    "dims": ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4"),
    "levels": ({"features": (8,)}, r"features must name at least 2 levels, got \(8,\); add a level"),
    "global": ({"global_levels": 4}, "global_levels must lie between 1 and 3 for these features, got 4; use"),
    "no-global": ({"global_levels": 0}, "global_levels must lie between 1 and 3 for these features, got 0; use"),
    "deep": (
        {"global_levels": 1, "deep_supervision": True},
        "deep_supervision needs a global branch of 2 levels, got 1",
    ),
    "deep-local": (
        {"branches": ("local",), "deep_supervision": True},
        r"deep_supervision needs a global branch .* branches \('local',\); raise global_levels or",
    ),
    "branches": ({"branches": ()}, r"branches must hold one or both of \('global', 'local'\), got \(\); leave out"),
    "branch": ({"branches": ("middle",)}, r"branches must hold one or both of .* got \('middle',\)"),
    "attention": ({"attention": ("gate",)}, r"attention must hold only \('global', 'local'\), got \['gate'\]"),
    "windows": ({"window_size": (8, 8)}, r"window_size must be a positive integer or 3 .* got \(8, 8\)"),
    "grid": ({"window_grid": 0}, "window_grid must be a positive integer or 3 .* got 0"),
    "units": ({"num_units": (1, 1)}, r"num_units must be 3 positive integers .* got \(1, 1\)"),
    "form": ({"local_form": "post"}, r"form must be one of \('gated', .* got 'post'; choose one"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        MedicalTransformer(**SMALL | kwargs)
