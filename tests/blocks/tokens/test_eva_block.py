"""EvaBlock, its parts and StochasticDepth against their formulas, released outputs and their documentation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from custom_networks.blocks.tokens import (
    EvaAttention,
    EvaBlock,
    StochasticDepth,
    SwiGlu,
    rotary_angles,
    turn_neighbours,
)
from tests.modules import largest_saved, randomised
from tests.references import eva as slow
from tests.references.layers import below
from tests.references.primus_oracles import compare_with_primus_oracle

FORMS = {
    "full": {},
    "no-scales": {"layer_scale": None},
    "no-inner-norm": {"inner_norm": False},
    "registers": {"num_registers": 2},
    "narrow": {"mlp_ratio": 1.5},
}


def _turns(channels: int, size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    exact = torch.tensor(slow.frequencies(channels // (2 * len(size))), dtype=torch.float64)
    angles = rotary_angles(exact, list(size))
    return angles.cos(), angles.sin()


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("size", [(3, 2, 4), (4, 3)], ids=str)
def test_block_equals_the_formula(size, form):
    module = randomised(EvaBlock(28, num_heads=2, **form))
    registers = form.get("num_registers", 0)
    x = torch.randn(2, registers + math.prod(size), 28, dtype=torch.float64)
    want = slow.block(x, module.state_dict(), 2, size, registers)
    torch.testing.assert_close(module(x, *_turns(14, size)), want, rtol=1e-10, atol=1e-10)


def test_parts_equal_their_formulas():
    module, size = randomised(EvaBlock(24, num_heads=2)), (2, 3, 2)
    state, x = module.state_dict(), torch.randn(2, 12, 24, dtype=torch.float64)
    want = slow.attention(x, below(state, "attn"), 2, size)
    torch.testing.assert_close(module.attn(x, *_turns(12, size)), want, rtol=1e-10, atol=1e-10)
    want = slow.attention_map(x, below(state, "attn"), 2, size)
    torch.testing.assert_close(module.attn.weights(x, *_turns(12, size)), want, rtol=1e-10, atol=1e-10)
    want = slow.perceptron(x, below(state, "mlp"))
    torch.testing.assert_close(module.mlp(x), want, rtol=1e-10, atol=1e-10)


ORACLES = {
    "primus_eva_block": {"num_heads": 2},
    "primus_eva_block_prefix": {"num_heads": 4, "layer_scale": None, "inner_norm": False, "num_registers": 2},
}


def _released(oracle, name: str, **more) -> tuple[EvaBlock, dict, tuple[Tensor, Tensor]]:
    stored = oracle(name)
    module = EvaBlock(48, **ORACLES[name] | more)
    module.load_state_dict(stored["state_dict"])
    sine, cosine = stored["inputs"][1][:, ::2].chunk(2, dim=-1)
    return module.eval(), stored, (cosine, sine)


@pytest.mark.parametrize("name", ORACLES)
def test_equals_the_released_block(oracle, name):
    module, stored, turns = _released(oracle, name)
    compare_with_primus_oracle(module, stored, lambda x, table: module(x, *turns))


@pytest.mark.parametrize("name", ORACLES)
def test_what_is_between_equals_the_released_block(oracle, name):
    module, stored, turns = _released(oracle, name)
    inside, x = stored["intermediates"], stored["inputs"][0]
    got = {"norm1": module.norm1(x)}
    got["attn"] = module.attn(got["norm1"], *turns)
    middle = x + (1 if module.gamma_1 is None else module.gamma_1) * got["attn"]
    got["norm2"] = module.norm2(middle)
    got["mlp"] = module.mlp(got["norm2"])
    registers = module.attn.num_registers
    for letter, layer in (("q", module.attn.q_proj), ("k", module.attn.k_proj)):
        got[letter] = module.attn._split(layer(got["norm1"]))
        got[f"{letter}_rotated"] = module.attn._turn(got[letter], *turns)
        free = turn_neighbours(got[letter][:, :, registers:], *turns)
        torch.testing.assert_close(got[f"{letter}_rotated"][:, :, registers:], free)
    assert got.keys() == inside.keys()
    for key, want in inside.items():
        torch.testing.assert_close(got[key], want, rtol=1e-5, atol=1e-5, msg=lambda m, key=key: f"{key}\n{m}")


class _Kept(nn.Module):
    """Stochastic depth whose choices are given, call by call."""

    def __init__(self, *choices: Tensor) -> None:
        super().__init__()
        self.choices = list(choices)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.choices.pop(0).float().view(-1, 1, 1) / 0.5


@pytest.mark.parametrize("name", ORACLES)
def test_a_dropped_branch_is_left_out_as_in_the_released_block(oracle, name):
    module, stored, turns = _released(oracle, name, dropout_path_rate=0.5)
    assert isinstance(module.drop_path, StochasticDepth)
    assert module.drop_path.rate == stored["drop_path"]["p"]
    module.drop_path = _Kept(stored["drop_path"]["keep_attn"], stored["drop_path"]["keep_mlp"])
    x = stored["inputs"][0].clone().requires_grad_()
    y = module(x, *turns)
    torch.testing.assert_close(y, stored["drop_path"]["output"], rtol=1e-5, atol=1e-5)
    (y * stored["cotangent"][0]).sum().backward()
    want = stored["drop_path"]["grad_input"]
    torch.testing.assert_close(x.grad, want, rtol=0, atol=1e-5 * want.abs().max().item())


def test_depth_is_left_out_by_sample_and_keeps_the_mean():
    torch.manual_seed(3)
    module, x = StochasticDepth(0.25), torch.ones(4000, 2, 3)
    y = module(x)
    assert set(y.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert (y == y[:, :1, :1]).all(), "a sample is dropped in part"
    assert abs((y[:, 0, 0] == 0).float().mean().item() - 0.25) < 0.03
    assert torch.equal(module.eval()(x), x)


def test_dropout_acts_on_both_branches_in_training():
    module, turns = randomised(EvaBlock(24, num_heads=2, dropout=1.0)), _turns(12, (2, 2, 2))
    x = torch.randn(1, 8, 24, dtype=torch.float64)
    assert not torch.equal(module(x, *turns), x)
    assert torch.equal(module.train()(x, *turns), x)


def test_the_map_is_not_stored_in_training():
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = EvaBlock(24, num_heads=2)
            self.turns = [y.float() for y in _turns(12, (8, 8, 8))]

        def forward(self, x: Tensor) -> Tensor:
            return self.block(x, *self.turns)

    assert largest_saved(Block(), torch.randn(1, 512, 24)) < 512 * 512


@pytest.mark.parametrize(
    ("form", "more"), [({}, 0), ({"layer_scale": None}, -2 * 24), ({"inner_norm": False}, -2 * 24)]
)
def test_parameter_count(form, more):
    module = EvaBlock(24, num_heads=2, **form)
    assert sum(p.numel() for p in module.parameters()) == 12 * 24**2 + 68 * 24 // 3 + more
    attention, mlp = EvaAttention(24, num_heads=2), SwiGlu(24, 40)
    assert sum(p.numel() for p in attention.parameters()) == 4 * 24**2 + 3 * 24 + 2 * 24
    assert sum(p.numel() for p in mlp.parameters()) == 3 * 24 * 40 + 4 * 40 + 24
    assert not any(name.endswith("k_proj.bias") for name, _ in module.named_parameters())


BAD = {
    "heads": ({"num_heads": 5}, "num_heads must divide in_channels 24, got 5; use one of 1, 2, 3"),
    "ratio": ({"mlp_ratio": 0.01}, "mlp_ratio must leave at least 1 channel, got 0.01; use for example 8/3"),
    "path": ({"dropout_path_rate": 1.0}, "dropout_path_rate must be at least 0 and below 1, got 1.0; use for example"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        EvaBlock(24, **kwargs)


def test_a_perceptron_has_channels():
    with pytest.raises(ValueError, match="hidden_channels must be at least 1, got 0; use for example"):
        SwiGlu(24, 0)
