"""EdgeAggregation and its parts against their formulas, the original implementations and their documentation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from custom_networks.blocks import EdgeAggregation, SkipGate, SpatialMask
from tests import harness
from tests.modules import randomised
from tests.references import mbtfe as mbtfe_references
from tests.references.layers import State
from tests.references.oracles import compare_with_oracle


class _OnOneMap(nn.Module):
    """The aggregation of a map and two coarser ones made of it; every level has its part in the output."""

    def __init__(self, block: EdgeAggregation) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        middle = torch.cat([x, x.square()], dim=1)[:, :, ::2, ::2]
        y = self.block([x, middle, middle[:, :4, ::2]])
        rest = (y[1].flatten(1).mean(1) + y[2].flatten(1).mean(1)).view([x.shape[0]] + [1] * (x.dim() - 1))
        return y[0] + rest


def _aggregation_case(dims: int) -> harness.Case:
    steps = [(2, 2, 1)[:dims], (2, 1, 1)[:dims]]

    def build(**kwargs) -> nn.Module:
        return _OnOneMap(EdgeAggregation(dims, (4, 8, 4), strides=steps, **kwargs))

    shape = (4, 8, 6, 5)[: dims + 1]
    return harness.Case.of(
        f"edge_aggregation-{dims}d", build, EdgeAggregation, shape, out_channels=4, part_of="MbtfeUnet"
    )


def _mask_case(dims: int) -> harness.Case:
    def build(**kwargs) -> nn.Module:
        return SpatialMask(dims, **kwargs)

    shape = (6, 4, 6, 5)[: dims + 1]
    return harness.Case.of(f"spatial_mask-{dims}d", build, SpatialMask, shape, out_channels=6, part_of="MbtfeUnet")


def _gate_case(dims: int) -> harness.Case:
    def build(**kwargs) -> nn.Module:
        return SkipGate(dims, 6, **kwargs)

    shape = (6, 4, 6, 5)[: dims + 1]
    return harness.Case.of(f"skip_gate-{dims}d", build, SkipGate, shape, shape, out_channels=6, part_of="MbtfeUnet")


CASES = [build(dims) for build in (_aggregation_case, _mask_case, _gate_case) for dims in (2, 3)]


@pytest.mark.parametrize(("case", "check"), harness.battery(CASES))
def test_battery(case, check):
    check(case)


SIZES = [(4, 6, 5), (3, 1, 7), (5, 4)]


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_mask_equals_the_formula(size, kernel_size):
    module = randomised(SpatialMask(len(size), kernel_size=kernel_size))
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    want = mbtfe_references.spatial_mask(x, module.state_dict())
    torch.testing.assert_close(module(x), want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("inter_channels", [None, 3])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_gate_equals_the_formula(size, inter_channels):
    module = randomised(SkipGate(len(size), 4, inter_channels=inter_channels))
    x, other = (torch.randn(2, 4, *size, dtype=torch.float64) for _ in range(2))
    want = mbtfe_references.skip_gate(x, other, module.state_dict())
    torch.testing.assert_close(module(x, other), want, rtol=1e-10, atol=1e-10)


AGGREGATIONS = {
    "even": ([(8, 8, 4), (4, 4, 2), (2, 2, 1)], (4, 6, 8), {}, [(2, 2, 2)] * 2),
    "odd": ([(7, 5, 9), (4, 3, 5), (2, 2, 3)], (4, 2, 6), {}, [(2, 2, 2)] * 2),
    "anisotropic": (
        [(5, 9, 7), (5, 5, 4), (5, 2, 4)],
        (3, 4, 5),
        {"strides": [(1, 2, 2), (1, 3, 1)], "kernel_size": [(1, 3, 3), (3, 1, 5)]},
        [(1, 2, 2), (1, 3, 1)],
    ),
    "unit axes": ([(1, 1, 8), (1, 1, 4)], (4, 4), {}, [(2, 2, 2)]),
    "four maps": ([(9, 7), (5, 4), (3, 2), (2, 1)], (2, 3, 4, 5), {}, [(2, 2)] * 3),
    "dual": ([(6, 5, 7), (3, 3, 4), (2, 2, 2)], (4, 8, 4), {"dual_groups": 4}, [(2, 2, 2)] * 2),
}


@pytest.mark.parametrize(("sizes", "channels", "kwargs", "strides"), AGGREGATIONS.values(), ids=AGGREGATIONS.keys())
def test_aggregation_equals_the_formula(sizes, channels, kwargs, strides):
    module = randomised(EdgeAggregation(len(sizes[0]), channels, **kwargs))
    maps = [torch.randn(2, c, *s, dtype=torch.float64) for c, s in zip(channels, sizes, strict=True)]
    want = mbtfe_references.edge_aggregation(maps, module.state_dict(), strides, kwargs.get("dual_groups", 1))
    for got, expected, x in zip(module(maps), want, maps, strict=True):
        assert got.shape == x.shape
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


def test_the_mean_gate_is_one_half():
    """The norm before the sigmoid sees to it, whatever the weights."""
    module = randomised(SkipGate(3, 4))
    x, other = (torch.randn(2, 4, 6, 6, 6, dtype=torch.float64) for _ in range(2))
    gate = module(x, other) / x
    assert gate.min() > 0 and gate.max() < 1
    assert (gate.mean((1, 2, 3, 4)) - 0.5).abs().max() < 0.05


@pytest.mark.parametrize("strides", [[(2, 2, 2)] * 2, [(1, 2, 2), (1, 2, 1)]], ids=str)
def test_parameter_count(strides):
    c = (4, 6, 8)
    module = EdgeAggregation(3, c, strides=strides)
    sums, k = [4, 10, 18], 27
    factors = [torch.tensor(strides[level:]).prod().item() for level in range(2)]
    want = 2 * k + 1 + sum(k * s * s + 2 * s for s in sums[:2]) + k * sums[2] * c[2] + 2 * c[2]
    want += sum(f * sums[2] * w for f, w in zip(factors, c, strict=False)) + sum(w * (w + 1) for w in c)
    assert sum(p.numel() for p in module.parameters()) == want


def test_parameters_at_the_scale_of_nnu_net():
    counts = [
        sum(p.numel() for p in EdgeAggregation(3, (32, 64, 128), dual_groups=groups).parameters())
        for groups in (None, 8)
    ]
    assert [round(count / 1e6, 2) for count in counts] == [1.65, 0.77]


BAD = {
    "dims": ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1; reshape"),
    "one": ({"in_channels": (4,)}, r"in_channels must name at least 2 maps, got \(4,\); add a map"),
    "strides": ({"strides": (2, 2)}, r"strides must have 1 entries .* got 2: \(2, 2\)"),
    "kernels": ({"kernel_size": (3, 3)}, r"kernel_size must have 1 entries .* got 2: \(3, 3\)"),
    "even": ({"kernel_size": 2}, r"kernel_size must be odd and positive, got \(2, 2, 2\)"),
    "groups": (
        {"in_channels": (4, 6), "dual_groups": 5},
        r"^dual_groups must divide every entry of in_channels \(4, 6\), got 5; use one of 1, 2$",
    ),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        EdgeAggregation(**{"spatial_dims": 3, "in_channels": (4, 8)} | kwargs)


def _without_dead_biases(names: dict[str, str]):
    """Rename by prefix and drop the biases that the norm after them removes."""

    def rename(state: State) -> State:
        renamed = {}
        for key, value in state.items():
            prefix = max((p for p in names if key.startswith(p)), key=len)
            if names[prefix]:
                renamed[names[prefix] + key.removeprefix(prefix)] = value
        return renamed

    return rename


def test_original_spatial_attention(oracle):
    names = _without_dead_biases({"_Spartial_Attention3d__layer.0": "conv"})
    compare_with_oracle(SpatialMask(3), oracle("eab_spatial_attention3d"), names)


def test_original_gate(oracle):
    names = _without_dead_biases({"_w.0": "W.0", "psi.0": "psi.0", "_w.0.bias": "", "psi.0.bias": ""})
    module = SkipGate(3, 8, inter_channels=6)
    compare_with_oracle(module, oracle("eab_gate"), names, forward=lambda other, x: module(x, other))


def test_original_aggregation(oracle):
    names = {"mattn._Spartial_Attention3d__layer.0": "mask.conv", "mupcat1": "up.0", "mupcat2": "up.1"}
    for theirs, ours in {"mdcat1.0": "down.0", "mdcat2.0": "down.1", "mupcat3.0": "up.2"}.items():
        names |= {f"{theirs}.conv": f"{ours}.conv", f"{theirs}.instnorm": f"{ours}.adn.N", f"{theirs}.conv.bias": ""}
    for level in range(3):
        for theirs, ours in {"_w.0": "W.0", "psi.0": "psi.0"}.items():
            names |= {f"gate{level + 1}.{theirs}": f"gates.{level}.{ours}", f"gate{level + 1}.{theirs}.bias": ""}
    module = EdgeAggregation(3, (4, 6, 8))
    compare_with_oracle(
        module, oracle("eab_dhtnet_conv"), _without_dead_biases(names), forward=lambda *maps: tuple(module(list(maps)))
    )
