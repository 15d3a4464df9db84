"""BottleneckUnit and ResidualTrunk against their formulas and their own documentation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from custom_networks.blocks import BottleneckUnit, ResidualTrunk, resize
from tests import harness
from tests.modules import randomised
from tests.references import transformer as transformer_references

SMALL = {"features": (4, 8, 12), "num_units": (1, 1), "norm_groups": 4}


class _Stacked(nn.Module):
    """The maps of a trunk on the grid of the image, as one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = ResidualTrunk(3, 2, **SMALL)

    def forward(self, x: Tensor) -> Tensor:
        size = list(x.shape[2:])
        return torch.cat([resize(y, size) for y in self.trunk(x)], dim=1)


CASE = harness.Case.of("residual_trunk", _Stacked, ResidualTrunk, (2, 17, 10, 12), out_channels=24, part_of="TransUnet")


@pytest.mark.parametrize(("case", "check"), harness.battery([CASE]))  # in two dimensions as a part of TransUnet
def test_battery(case, check):
    check(case)


@pytest.mark.parametrize(
    ("size", "in_channels", "strides", "kernel_size"),
    [
        ((5, 4, 7), 8, 1, 3),
        ((5, 4, 7), 6, 1, (1, 3, 3)),
        ((5, 4, 7), 8, (1, 2, 1), 3),
        ((5, 6), 8, (3, 2), (3, 1)),
    ],
    ids=["identity", "wider", "strided", "flat"],
)
def test_unit_equals_the_formula(size, in_channels, strides, kernel_size):
    module = randomised(
        BottleneckUnit(len(size), in_channels, 8, strides=strides, kernel_size=kernel_size, norm_groups=4)
    )
    x = torch.randn(2, in_channels, *size, dtype=torch.float64)
    steps = (strides,) * len(size) if isinstance(strides, int) else strides
    want = transformer_references.bottleneck_unit(x, module.state_dict(), steps, 4)
    torch.testing.assert_close(module(x), want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("root_convolutions", [1, 2])
@pytest.mark.parametrize(
    ("size", "strides", "kernel_size"),
    [
        ((9, 11, 7), 2, 3),
        ((5, 12, 17), [(1, 2, 2), (1, 2, 4), (2, 1, 3)], [(1, 3, 3), (1, 3, 3), 3]),
        ((12, 19), [2, (3, 1), 2], [1, 3, (3, 5)]),
    ],
    ids=["isotropic", "anisotropic", "2d"],
)
def test_trunk_equals_the_formula(size, strides, kernel_size, root_convolutions):
    dims = len(size)
    features, norm_groups = (6, 8, 16), 4  # a quarter of 8, and 6, have fewer norm groups than 4
    module = randomised(
        ResidualTrunk(
            dims,
            2,
            features=features,
            strides=strides,
            kernel_size=kernel_size,
            num_units=(2, 1),
            root_convolutions=root_convolutions,
            norm_groups=norm_groups,
        )
    )
    x = torch.randn(2, 2, *size, dtype=torch.float64)
    entries = [strides] * 3 if isinstance(strides, int) else strides
    steps = [(entry,) * dims if isinstance(entry, int) else entry for entry in entries]
    want = transformer_references.residual_trunk(x, module.state_dict(), steps, norm_groups)
    got = module(x)
    assert len(got) == 3
    for level, (y, z) in enumerate(zip(got, want, strict=True)):
        torch.testing.assert_close(y, z, rtol=1e-9, atol=1e-9, msg=lambda m, level=level: f"map {level}: {m}")
        size = tuple(-(-s // step) for s, step in zip(size, steps[level], strict=True))
        assert y.shape == (2, features[level], *size)


def test_the_root_kernel_follows_the_first_kernel_size():
    flat = ResidualTrunk(3, 1, **SMALL, kernel_size=[(1, 3, 5), 3, (1, 3, 3)])
    assert flat.root[0].weight.shape[2:] == (1, 7, 13)
    deep = ResidualTrunk(3, 1, **SMALL, kernel_size=[(1, 3, 5), 3, (1, 3, 3)], root_convolutions=3)
    assert [deep.root[place].weight.shape[2:] for place in (0, 3, 6)] == [(1, 3, 5)] * 3
    kernels = [stage[1].residual[3].weight.shape[2:] for stage in flat.stages]
    assert kernels == [(3, 3, 3), (1, 3, 3)]


@pytest.mark.parametrize("scale", [0.1, 1e3])
def test_the_contrast_of_the_image_does_not_matter(scale):
    trunk = randomised(ResidualTrunk(2, 1, **SMALL))
    x = torch.randn(1, 1, 16, 24, dtype=torch.float64)
    for y, z in zip(trunk(x), trunk(scale * x), strict=True):
        torch.testing.assert_close(y, z, rtol=1e-2, atol=1e-2)


def unit_parameters(c_in: int, c_out: int, k: int, *, changes: bool) -> int:
    i = c_out // 4
    return c_in * i + k * i**2 + i * c_out + 4 * i + 2 * c_out + (c_in * c_out + 2 * c_out if changes else 0)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(
    ("in_channels", "strides", "changes"), [(8, 1, False), (12, 1, True), (8, 2, True), (8, (2, 1, 1), True)]
)
def test_unit_parameter_count(dims, in_channels, strides, changes):
    strides = strides if isinstance(strides, int) else strides[:dims]
    module = BottleneckUnit(dims, in_channels, 8, strides=strides)
    assert sum(p.numel() for p in module.parameters()) == unit_parameters(in_channels, 8, 3**dims, changes=changes)


@pytest.mark.parametrize("root_convolutions", [1, 3])
@pytest.mark.parametrize("dims", [2, 3])
def test_trunk_parameter_count(dims, root_convolutions):
    module = ResidualTrunk(
        dims, 2, features=(8, 8, 16), num_units=(2, 3), root_convolutions=root_convolutions, norm_groups=8
    )
    k, r = 3**dims, 7**dims
    root = r * 2 * 8 + 2 * 8 if root_convolutions == 1 else k * 8 * (2 + 2 * 8) + 2 * 3 * 8
    want = root + 2 * unit_parameters(8, 8, k, changes=False)
    want += unit_parameters(8, 16, k, changes=True) + 2 * unit_parameters(16, 16, k, changes=False)
    assert sum(p.numel() for p in module.parameters()) == want


def test_the_default_in_2d_is_the_trunk_of_the_paper():
    with torch.device("meta"):
        module = ResidualTrunk(2, 3)
    assert round(sum(p.numel() for p in module.parameters()) / 1e6, 2) == 11.89


BAD_UNITS = {
    "channels": (
        {"out_channels": 10},
        "out_channels must be a multiple of 4, got 10; use for example 12",
    ),
    "no-channels": ({"out_channels": 0}, "out_channels must be a multiple of 4, got 0; use for example 4"),
    "even": ({"kernel_size": 2}, "kernel_size must be odd and positive, got 2; use for example 3"),
    "dims": ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4; reshape"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD_UNITS.values(), ids=BAD_UNITS.keys())
def test_bad_arguments_of_a_unit(kwargs, message):
    with pytest.raises(ValueError, match=message):
        BottleneckUnit(**{"spatial_dims": 3, "in_channels": 8, "out_channels": 8} | kwargs)


BAD = {
    "strides": ({"strides": [2, 2]}, r"strides must have 3 entries for these features, got 2: \[2, 2\]"),
    "stride-axes": ({"strides": [2, (2, 2), 2]}, r"strides must be .* got \(2, 2\); use for example \(2, 2, 2\)"),
    "kernels": ({"kernel_size": [3, 3]}, "kernel_size must have 3 entries for these features, got 2"),
    "even": ({"kernel_size": [2, 3, 3]}, r"kernel_size must be odd .* got \(2, 2, 2\); use for example \(3, 3, 3\)"),
    "units": ({"num_units": (1, 2, 3)}, r"num_units must be 2 positive integers .* got \(1, 2, 3\); give one for each"),
    "no-units": ({"num_units": (0, 1)}, r"num_units must be 2 positive integers for these features, got \(0, 1\)"),
    "channels": ({"features": (4, 8, 10)}, r"features must be multiples of 4 but for .*, got \(4, 8, 10\)"),
    "one-level": ({"features": (8,), "num_units": ()}, r"features must name at least 2 maps, got \(8,\); add a level"),
    "dims": ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4; reshape"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ResidualTrunk(**{"spatial_dims": 3, "in_channels": 1, **SMALL} | kwargs)
