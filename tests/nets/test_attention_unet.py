"""AttentionUnet against a functional forward from its state dict, and its own documentation."""

from __future__ import annotations

from math import prod

import pytest
import torch

from custom_networks.attention import NonLocal
from custom_networks.blocks import AttentionGate
from custom_networks.nets import AttentionUnet
from tests.modules import randomised
from tests.references import layers as references

FEATURES = (4, 6, 8, 10)
PARTS = {"plain": (), "gate": ("gate",), "non-local": ("non_local",), "both": ("gate", "non_local")}


def _steps(strides, levels: int, dims: int) -> list[tuple[int, ...]]:
    entries = [strides] * levels if isinstance(strides, int) else strides
    return [(entry,) * dims if isinstance(entry, int) else tuple(entry) for entry in entries]


@pytest.mark.parametrize("attention", PARTS.values(), ids=PARTS.keys())
@pytest.mark.parametrize(
    ("size", "kwargs"),
    [
        ((16, 24, 32), {}),
        ((16, 24), {}),
        ((5, 16, 12), {"features": (4, 6, 8), "strides": [(1, 2, 2), (1, 2, 2)], "kernel_size": [(1, 3, 3), 3, 5]}),
        ((6, 12, 8), {"features": (6, 4), "strides": [(3, 2, 2)]}),
        ((12, 8, 8), {"features": (4, 5, 6), "strides": [(3, 2, 1), (1, 2, 4)], "non_local_levels": (0, -2, 2)}),
        ((16, 8, 8), {"features": (4, 6, 8), "norm": "batch"}),
        ((16, 8, 8), {"features": (4, 6, 8), "gate_reduction": 1}),
    ],
    ids=["3d", "2d", "anisotropic", "two-levels", "non-local-everywhere", "batch-norm", "all-channels-in-the-gates"],
)
def test_equals_the_functional_forward(attention, size, kwargs):
    kwargs = {"features": FEATURES} | kwargs
    net = randomised(AttentionUnet(len(size), 2, 3, attention=attention, **kwargs), 0.3)
    x = torch.randn(2, 2, *size, dtype=torch.float64)
    steps = _steps(kwargs.get("strides", 2), len(kwargs["features"]) - 1, len(size))
    want = references.attention_unet(x, net.state_dict(), steps, (2,) * len(size))[:, 0]
    torch.testing.assert_close(net(x), want, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("attention", PARTS.values(), ids=PARTS.keys())
def test_deep_supervision_equals_the_functional_forward(attention):
    net = AttentionUnet(3, 1, 3, features=FEATURES, attention=attention, deep_supervision=True)
    randomised(net, 0.3).train()
    x = torch.randn(1, 1, 16, 24, 32, dtype=torch.float64)
    want = references.attention_unet(x, net.state_dict(), [(2,) * 3] * 3, (2,) * 3)
    assert want.shape == (1, 3, 3, 16, 24, 32)
    torch.testing.assert_close(net(x), want, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("attention", PARTS.values(), ids=PARTS.keys())
def test_attention_parts_are_built_as_asked(attention):
    net = AttentionUnet(features=FEATURES, attention=attention)
    kinds = [type(module) for module in net.modules()]
    assert kinds.count(AttentionGate) == (2 if "gate" in attention else 0)
    assert kinds.count(NonLocal) == (1 if "non_local" in attention else 0)


def test_a_fresh_non_local_block_changes_nothing():
    torch.manual_seed(3)
    net = AttentionUnet(features=FEATURES, attention=("non_local",)).eval()
    plain = AttentionUnet(features=FEATURES, attention=()).eval()
    plain.load_state_dict({k: v for k, v in net.state_dict().items() if k in plain.state_dict()})
    x = torch.randn(1, 1, 16, 16, 24)
    torch.testing.assert_close(net(x), plain(x))


@pytest.mark.parametrize("attention", PARTS.values(), ids=PARTS.keys())
@pytest.mark.parametrize("deep_supervision", [False, True], ids=["single", "deep"])
@pytest.mark.parametrize("gate_reduction", [1, 2, 16])
@pytest.mark.parametrize(
    ("dims", "features", "kernel_size"),
    [(3, (4, 6, 8, 10), 3), (2, (4, 6, 8), 5), (3, (4, 6, 8), [(1, 3, 3), 3, 3])],
    ids=["3d", "2d", "anisotropic"],
)
def test_parameter_count(attention, deep_supervision, gate_reduction, dims, features, kernel_size):
    net = AttentionUnet(
        dims,
        2,
        3,
        features=features,
        kernel_size=kernel_size,
        attention=attention,
        gate_reduction=gate_reduction,
        deep_supervision=deep_supervision,
    )
    levels, f = len(features), (*features, 2)  # f[-1] is the image
    k = [prod(kernel) for kernel in _steps(kernel_size, levels, dims)]
    want = sum(k[i] * (f[i - 1] * f[i] + f[i] ** 2) + 4 * f[i] for i in range(levels))
    want += sum(3 * k[i] * f[i] ** 2 + 4 * f[i] + (f[i + 1] + 1) * f[i] for i in range(levels - 1))
    want += (f[0] + 1) * 3
    inner = range(1, levels - 1)
    if deep_supervision:
        want += sum((f[i] + 1) * 3 for i in inner)
    if "gate" in attention:
        c, s = features[-1], 2**dims
        want += c**2 + 2 * c
        for i in inner:
            c, g, m = f[i], f[i + 1], max(1, f[i] // gate_reduction)
            want += s * c * m + (g + 1) * m + (m + 1) + (c + 1) * c + 2 * c
    if "non_local" in attention:
        c, v = features[-1], features[-1] // 2
        want += 3 * (c + 1) * v + (v + 1) * c + 2 * c
    assert sum(p.numel() for p in net.parameters()) == want


@pytest.mark.parametrize(
    ("strides", "divisor"),
    [(2, (8, 8, 8)), ([2, 2, 4], (16, 16, 16)), ([(1, 2, 2), (1, 2, 2), 2], (2, 8, 8)), ([1, 3, 1], (3, 3, 3))],
    ids=str,
)
def test_size_divisor(strides, divisor):
    net = AttentionUnet(features=FEATURES, strides=strides).eval()
    assert net.size_divisor == divisor
    size = tuple(2 * d for d in divisor)
    assert net(torch.zeros(1, 1, *size)).shape == (1, 2, *size)


def test_the_message_of_the_design():
    with pytest.raises(ValueError, match=r"\(37, 40, 50\) must be divisible by \(4, 4, 4\); pad to \(40, 40, 52\)"):
        AttentionUnet(features=(4, 4, 4))(torch.zeros(1, 1, 37, 40, 50))


def test_a_single_coarse_voxel_is_refused():
    with pytest.raises(ValueError, match=r"\(8, 8, 8\) leaves one voxel on the coarsest grid; pad to \(16, 8, 8\)"):
        AttentionUnet(features=FEATURES)(torch.zeros(1, 1, 8, 8, 8))


BAD = {
    "dims": ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1"),
    "one-level": ({"features": (8,)}, r"at least 2 levels .* got \(8,\); add a level"),
    "deep-two-levels": ({"features": (8, 16), "deep_supervision": True}, r"3 with deep_supervision.*got \(8, 16\)"),
    "attention": ({"attention": ("gate", "se")}, r"attention must hold only .* got \['se'\]; leave out"),
    "strides-number": ({"strides": (2, 2)}, r"strides must have 3 entries .* got 2: \(2, 2\)"),
    "strides-axes": ({"strides": (2, (2, 2), 2)}, r"strides must be .* got \(2, 2\); use"),
    "strides-zero": ({"strides": 0}, "strides must be .* got 0; use"),
    "kernel-number": ({"kernel_size": (3, 3)}, r"kernel_size must have 4 entries .* got 2"),
    "kernel-even": (
        {"kernel_size": (3, 3, 2, 3)},
        r"kernel_size must be odd and positive, got \(2, 2, 2\); use for example \(3, 3, 3\)",
    ),
    "non-local-level": ({"non_local_levels": (4,)}, r"non_local_levels must lie between -4 and 3, got \(4,\)"),
    "gate-reduction": ({"gate_reduction": 0}, "gate_reduction must be at least 1, got 0; use 1"),
    "non-affine-norm": (
        {"norm": "instance"},
        "norm must have a learned scale for a non-local block .* got 'instance'; use",
    ),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        AttentionUnet(**{"features": FEATURES} | kwargs)
