"""AxialAttention against its formula, stored reference outputs and its own documentation."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from custom_networks.attention.axial_attention import AxialAttention
from tests.modules import randomised
from tests.references import layers as references
from tests.references.oracles import compare_with_oracle


def along(x: Tensor, state: dict[str, Tensor], axis: int, num_heads: int) -> tuple[Tensor, Tensor]:
    """Return A_a(x) and its map (B, H, *S, L), line by line."""
    size = x.shape[2:]
    query, key, value = (w.chunk(num_heads) for w in state["query_key_value.weight"].chunk(3))
    y, maps = torch.empty_like(x), x.new_empty(len(x), num_heads, *size, size[axis])
    for place in itertools.product(*(range(1 if a == axis else n) for a, n in enumerate(size))):
        line = (..., *(slice(None) if a == axis else p for a, p in enumerate(place)))
        heads = []
        for h in range(num_heads):
            q, k, v = (torch.einsum("dc,bcl->bdl", w[h], x[line]) for w in (query, key, value))
            weights = references.softmax(torch.einsum("bdi,bdj->bij", q, k) / q.shape[1] ** 0.5, -1)
            maps[(slice(None), h, *line[1:])] = weights
            heads.append(torch.einsum("bij,bdj->bdi", weights, v))
        y[line] = references.pointwise(torch.cat(heads, dim=1), state, "output")
    return y, maps


def reference(x: Tensor, state: dict[str, Tensor], num_heads: int, sequential: bool) -> tuple[Tensor, Tensor]:
    results = []
    for axis in range(x.dim() - 2):
        results.append(along(x, references.below(state, f"axes.{axis}"), axis, num_heads))
        x = results[-1][0] if sequential else x
    return x if sequential else sum(y for y, _ in results), torch.cat([m for _, m in results], dim=-1)


@pytest.mark.parametrize("size", [(3, 4, 2), (3, 1, 5), (1, 1, 1), (5, 4)], ids=str)
@pytest.mark.parametrize("sequential", [False, True], ids=["sum", "sequential"])
@pytest.mark.parametrize(
    ("channels", "kwargs"),
    [(8, {}), (10, {"num_heads": 5}), (10, {"num_heads": 4, "head_channels": 3})],
    ids=["default", "five", "width"],
)
def test_equals_the_formula(size, sequential, channels, kwargs):
    module = randomised(AxialAttention(len(size), channels, sequential=sequential, **kwargs))
    x = torch.randn(2, channels, *size, dtype=torch.float64)
    want, maps = reference(x, module.state_dict(), kwargs.get("num_heads", 4), sequential)
    torch.testing.assert_close(module(x), want, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(module.attention_map(x), maps, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("axis", [2, 3, 4])
def test_reordering_the_planes_reorders_the_output(axis):
    module = randomised(AxialAttention(3, 8))
    x = torch.randn(2, 8, 3, 4, 5, dtype=torch.float64)
    order = torch.randperm(x.shape[axis])
    torch.testing.assert_close(module(x.index_select(axis, order)), module(x).index_select(axis, order))


def test_the_map_is_not_stored_in_training():
    module, x = AxialAttention(3, 8), torch.randn(1, 8, 2, 64, 64)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        module.train()(x)
    assert 0 < max(sizes) <= 3 * x.numel()  # queries, keys and values are one tensor; the maps would be 32 times x


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("channels", "num_heads", "head_channels"), [(16, 4, None), (12, 2, None), (10, 4, 3)])
def test_parameter_count(dims, channels, num_heads, head_channels):
    module = AxialAttention(dims, channels, num_heads=num_heads, head_channels=head_channels)
    inner = num_heads * (channels // num_heads if head_channels is None else head_channels)
    want = dims * (3 * channels * inner + (inner + 1) * channels)
    assert sum(p.numel() for p in module.parameters()) == want


BAD = {
    "dims": ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4; reshape"),
    "heads": ({"in_channels": 10}, "num_heads must divide in_channels 10, got 4; use one of 1, 2, 5, 10"),
    "no-heads": ({"num_heads": 0, "head_channels": 4}, "num_heads and head_channels must be .* got 0 and 4; use"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        AxialAttention(**{"spatial_dims": 3, "in_channels": 16} | kwargs)


def renamed(state: dict) -> dict:
    """Join the original's queries with its keys and values."""
    ours = {}
    for axis in range(sum(key.endswith("to_q.weight") for key in state)):
        part = references.below(state, f"axial_attentions.{axis}.fn")
        ours[f"axes.{axis}.query_key_value.weight"] = torch.cat([part["to_q.weight"], part["to_kv.weight"]])
        ours[f"axes.{axis}.output.weight"] = part["to_out.weight"]
        ours[f"axes.{axis}.output.bias"] = part["to_out.bias"]
    return ours


@pytest.mark.parametrize("dims", [2, 3])
def test_original(oracle, dims):
    compare_with_oracle(AxialAttention(dims, 16, num_heads=4), oracle(f"axial_lucid_{dims}d"), renamed)


class _TwoOfThree(nn.Module):
    """The last two axes of the 3D module, which is what a 2D original has."""

    def __init__(self) -> None:
        super().__init__()
        self.axes = AxialAttention(3, 16, num_heads=4).axes[1:]

    def forward(self, x):
        return sum(lines(x.movedim(1, -1)) for lines in self.axes).movedim(-1, 1)


def test_original_2d_in_3d(oracle):
    compare_with_oracle(_TwoOfThree(), oracle("axial_lucid_2d"), renamed, lifted=True)
