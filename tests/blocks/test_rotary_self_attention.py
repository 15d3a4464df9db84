"""RotarySelfAttention against complex numbers, the attention without positions and its own documentation."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from custom_networks.attention import MultiHeadSelfAttention
from custom_networks.blocks import RotarySelfAttention
from tests import harness
from tests.modules import largest_saved, randomised
from tests.references import transformer as transformer_references


def _case(dims: int) -> harness.Case:
    def build(**kwargs) -> nn.Module:
        return RotarySelfAttention(dims, 14, **{"num_heads": 2} | kwargs)

    shape = (14, 4, 6, 5)[: dims + 1]
    return harness.Case.of(f"rotary_self_attention-{dims}d", build, RotarySelfAttention, shape, out_channels=14)


CHECKS = (
    *harness.MODULE_CHECKS,
    harness.check_contract,
    harness.check_unit_and_odd_axes,
    harness.check_attention_map,
)


@pytest.mark.parametrize(("case", "check"), harness.battery([_case(2), _case(3)], CHECKS))
def test_battery(case, check):
    check(case)


def _module(dims: int, channels: int, **kwargs) -> RotarySelfAttention:
    return transformer_references.use_exact_frequencies(
        randomised(RotarySelfAttention(dims, channels, **kwargs), std=channels**-0.5)
    )


@pytest.mark.parametrize("size", [(4, 3, 5), (3, 1, 7), (1, 1, 1), (5, 4)], ids=str)
@pytest.mark.parametrize(
    ("channels", "num_heads", "head_channels"),
    [(24, 4, None), (26, 2, None), (5, 2, 19)],
    ids=["one-pair", "rest", "width"],
)
def test_equals_the_formula(size, channels, num_heads, head_channels):
    module = _module(len(size), channels, num_heads=num_heads, head_channels=head_channels)
    x = torch.randn(2, channels, *size, dtype=torch.float64)
    state = module.state_dict()
    want = transformer_references.self_attention(x, state, num_heads, rotary=True)
    torch.testing.assert_close(module(x), want, rtol=1e-10, atol=1e-10)
    want = transformer_references.attention_map(x, state, num_heads, rotary=True)
    torch.testing.assert_close(module.attention_map(x), want, rtol=1e-10, atol=1e-10)


def _logits_between(module: RotarySelfAttention, x: Tensor, box: tuple[slice, ...]) -> Tensor:
    """Return ``(B, H, n, n)``: the logits among the tokens of the box, up to a constant per row."""
    token = torch.arange(x[0, 0].numel()).view(x.shape[2:])[box].flatten()
    logits = module.attention_map(x)[:, :, token][..., token].log()
    return logits - logits.mean(-1, keepdim=True)


@pytest.mark.parametrize("size", [(7, 6, 8), (9, 8)], ids=str)
def test_logits_depend_on_relative_positions_only(size):
    module = _module(len(size), 24, num_heads=2)
    patch = torch.randn(1, 24, *(3, 2, 4)[: len(size)], dtype=torch.float64)
    found = []
    for corner in itertools.product((0, 3, 4), repeat=len(size)):
        box = tuple(slice(c, c + n) for c, n in zip(corner, patch.shape[2:], strict=True))
        x = torch.randn(1, 24, *size, dtype=torch.float64)
        x[(..., *box)] = patch
        found.append(_logits_between(module, x, box))
    for logits in found[1:]:
        torch.testing.assert_close(logits, found[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_same_content_in_another_place_is_told_apart_by_axis_and_distance(dims):
    module = _module(dims, 24, num_heads=2)
    x = torch.randn(1, 24, *(1,) * dims, dtype=torch.float64).expand(1, 24, *(3,) * dims)
    row = module.attention_map(x)[0, :, 0]  # all tokens are alike: only their distance to the first is left
    for i, j in itertools.combinations(range(3**dims), 2):
        assert (row[:, i] - row[:, j]).abs().max() > 1e-4, f"tokens {i} and {j} get the same weight"


def _plain_twin(module: RotarySelfAttention, dims: int, channels: int, num_heads: int) -> MultiHeadSelfAttention:
    twin = MultiHeadSelfAttention(dims, channels, num_heads=num_heads).double().eval()
    twin.load_state_dict(module.state_dict())
    return twin


@pytest.mark.parametrize("size", [(3, 4, 5), (5, 4)], ids=str)
def test_without_turning_it_is_the_plain_attention(size):
    module = _module(len(size), 26, num_heads=2)
    twin = _plain_twin(module, len(size), 26, 2)
    x = torch.randn(2, 26, *size, dtype=torch.float64)
    assert (module(x) - twin(x)).abs().max() > 1e-3
    module.frequencies.zero_()
    torch.testing.assert_close(module(x), twin(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(module.attention_map(x), twin.attention_map(x), rtol=1e-12, atol=1e-12)


def test_turning_keeps_the_length_of_every_pair():
    module = _module(3, 28, num_heads=2)
    tokens, size = torch.randn(2, 60, 28, dtype=torch.float64), [3, 4, 5]
    turned = module._queries_keys(tokens, size)
    module.frequencies.zero_()
    for got, want in zip(turned, module._queries_keys(tokens, size), strict=True):
        (u, w, rest), (u0, w0, rest0) = (x.split([6, 6, 2], dim=-1) for x in (got, want))
        torch.testing.assert_close(u**2 + w**2, u0**2 + w0**2, rtol=1e-12, atol=1e-12)
        assert torch.equal(rest, rest0)
        assert not torch.allclose(u, u0)


def test_an_axis_of_length_one_turns_nothing():
    """On a single slice the pairs of the first axis stay: they are the rest of a 2D head with the other four pairs."""
    volume = _module(3, 24, num_heads=2)
    slices = RotarySelfAttention(2, 24, num_heads=2).double().eval()
    slices.frequencies = volume.frequencies
    order = torch.tensor([2, 3, 4, 5, 8, 9, 10, 11, 0, 1, 6, 7])
    rows = torch.cat([order, 12 + order])
    state = {
        key: value[rows] if key.split(".")[0] in ("query", "key") else value
        for key, value in volume.state_dict().items()
    }
    slices.load_state_dict(state)
    x = torch.randn(2, 24, 6, 5, dtype=torch.float64)
    torch.testing.assert_close(volume(x.unsqueeze(2)).squeeze(2), slices(x), rtol=1e-12, atol=1e-12)


def test_dropout_is_off_in_eval_and_drops_the_output_in_training():
    module = _module(2, 16, dropout=1.0)
    x = torch.randn(2, 16, 4, 5, dtype=torch.float64)
    want = transformer_references.self_attention(x, module.state_dict(), 4, rotary=True)
    torch.testing.assert_close(module(x), want, rtol=1e-10, atol=1e-10)
    assert not module.train()(x).any()


def test_angles_keep_their_precision_under_autocast():
    module = RotarySelfAttention(2, 16).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        angles = module._angles([64, 64])
    torch.testing.assert_close(angles, module.double()._angles([64, 64]).float(), rtol=1e-6, atol=1e-6)


def test_the_map_is_not_stored_in_training():
    module, x = RotarySelfAttention(3, 24), torch.randn(1, 24, 8, 8, 8)
    assert largest_saved(module, x) <= x.numel()


@pytest.mark.parametrize(("channels", "num_heads", "head_channels"), [(24, 4, None), (14, 2, None), (10, 4, 7)])
def test_parameter_count_and_state_are_those_of_the_plain_attention(channels, num_heads, head_channels):
    arguments = {"num_heads": num_heads, "head_channels": head_channels}
    module = RotarySelfAttention(3, channels, **arguments)
    inner = num_heads * (head_channels or channels // num_heads)
    assert sum(p.numel() for p in module.parameters()) == 3 * (channels + 1) * inner + (inner + 1) * channels
    assert module.state_dict().keys() == MultiHeadSelfAttention(3, channels, **arguments).state_dict().keys()


BAD = {
    "dims": ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4; reshape"),
    "heads": ({"in_channels": 10}, "num_heads must divide in_channels 10, got 4; use one of 1, 2, 5, 10"),
    "narrow": ({"in_channels": 20}, "rotary positions need heads of at least 6 channels, got 5; use fewer heads"),
    "narrow-2d": (
        {"spatial_dims": 2, "in_channels": 12},
        "rotary positions need heads of at least 4 channels, got 3; use fewer heads",
    ),
    "no-width": ({"head_channels": 0}, "num_heads and head_channels must be at least 1, got 4 and 0; use for example"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        RotarySelfAttention(**{"spatial_dims": 3, "in_channels": 24} | kwargs)
