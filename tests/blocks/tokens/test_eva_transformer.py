"""EvaTransformer against its formula and its own documentation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from custom_networks.blocks import EvaTransformer
from tests import harness
from tests.modules import randomised
from tests.references import eva as slow
from tests.references.layers import below

SMALL = {"num_layers": 2, "num_heads": 2}


def _case(dims: int) -> harness.Case:
    def build(**kwargs) -> nn.Module:
        return EvaTransformer(dims, 28, **SMALL, token_grid=(3, 2, 4)[:dims], **kwargs)

    shape = (28, 4, 6, 5)[: dims + 1]
    name = f"eva_transformer-{dims}d"
    return harness.Case.of(name, build, EvaTransformer, shape, out_channels=28, part_of="Primus")


CHECKS = (
    *harness.MODULE_CHECKS,
    harness.check_contract,
    harness.check_unit_and_odd_axes,
    harness.check_axis_permutation,
    harness.check_attention_map,
)


@pytest.mark.parametrize(("case", "check"), harness.battery([_case(2), _case(3)], CHECKS))
def test_battery(case, check):
    check(case)


@pytest.mark.parametrize("registers", [0, 2])
@pytest.mark.parametrize(
    ("grid", "size"), [((2, 3, 2), (2, 3, 2)), ((2, 3, 2), (3, 1, 4)), ((4, 2), (4, 2)), ((4, 2), (3, 5))], ids=str
)
def test_equals_the_formula(grid, size, registers):
    module = EvaTransformer(len(size), 28, **SMALL, token_grid=grid, num_registers=registers, dropout=0.5)
    slow.use_exact_frequencies(randomised(module))
    x = torch.randn(2, 28, *size, dtype=torch.float64)
    want = slow.transformer(x, module.state_dict(), 2, grid)
    torch.testing.assert_close(module(x), want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("registers", [0, 2])
def test_the_map_is_that_of_the_last_block(registers):
    module = EvaTransformer(3, 24, **SMALL, token_grid=2, num_registers=registers)
    state = slow.use_exact_frequencies(randomised(module)).state_dict()
    x, size = torch.randn(2, 24, 2, 3, 2, dtype=torch.float64), (2, 3, 2)
    tokens = slow.block(slow.embedded(x, state, (2, 2, 2)), below(state, "blocks.0"), 2, size, registers)
    last = below(state, "blocks.1")
    want = slow.attention_map(slow.layer_norm(tokens, last, "norm1"), below(last, "attn"), 2, size, registers)
    torch.testing.assert_close(module.attention_map(x), want[:, :, registers:, registers:], rtol=1e-10, atol=1e-10)


def test_checkpointing_changes_no_gradient():
    plain, checkpointed = (
        EvaTransformer(3, 24, **SMALL, checkpointing=c, dropout_path_rate=0.5) for c in (False, True)
    )
    checkpointed.load_state_dict(plain.state_dict())
    x, gradients, saved = torch.randn(3, 24, 4, 4, 4), [], []
    for module in (plain, checkpointed):
        kept = []
        torch.manual_seed(1)
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t.numel()) or t, lambda t: t):
            y = module.train()(x)
        y.square().sum().backward()
        gradients.append([p.grad for p in module.parameters()])
        saved.append(sum(kept))
    for got, want in zip(*gradients, strict=True):
        torch.testing.assert_close(got, want)
    assert saved[1] < saved[0] / 3


def test_the_rates_of_leaving_out_branches_grow_linearly():
    rates = [b.drop_path.rate for b in EvaTransformer(3, 12, num_layers=5, num_heads=1, dropout_path_rate=0.2).blocks]
    assert rates == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
    assert EvaTransformer(3, 12, num_layers=1, num_heads=1, dropout_path_rate=0.2).blocks[0].drop_path.rate == 0


def test_weights_are_drawn_as_released():
    module = EvaTransformer(3, 96, num_layers=3, num_heads=4, token_grid=6, num_registers=4, layer_scale=0.3)
    assert module.pos_embed.std().item() == pytest.approx(0.02, rel=0.05)
    assert module.registers.std().item() == pytest.approx(1e-6, rel=0.2)
    for i, block in enumerate(module.blocks):
        assert (block.gamma_1 == 0.3).all()
        assert (block.gamma_2 == 0.3).all()
        later = (2 * (i + 1)) ** -0.5
        for layer, shrunk in ((block.attn.q_proj, 1), (block.attn.proj, later), (block.mlp.fc1_g, 1)):
            assert layer.weight.std().item() == pytest.approx(0.02 * shrunk, rel=0.06)
        assert block.mlp.fc2.weight.std().item() == pytest.approx(0.02 * later, rel=0.06)
        assert not block.mlp.fc2.bias.any()


@pytest.mark.parametrize("registers", [0, 3])
def test_parameter_count(registers):
    module = EvaTransformer(3, 24, num_layers=3, num_heads=2, token_grid=(2, 3, 4), num_registers=registers)
    want = 3 * (12 * 24**2 + 68 * 24 // 3) + 2 * 24 + 24 * (24 + 2 * registers)
    assert sum(p.numel() for p in module.parameters()) == want


BAD = {
    "dims": ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4; reshape"),
    "layers": ({"num_layers": 0}, "num_layers must be at least 1, got 0; leave the transformer out instead"),
    "heads": ({"num_heads": 5}, "num_heads must divide in_channels 24, got 5; use one of 1, 2"),
    "narrow": (
        {"num_heads": 6},
        "num_heads must leave at least 6 channels in a head to be turned by place, got 6 for 24 channels; use fewer",
    ),
    "registers": ({"num_registers": -1}, "num_registers must be at least 0, got -1; use 0 for none"),
    "path": ({"dropout_path_rate": 1.0, "num_layers": 1}, "dropout_path_rate must be at least 0 and below 1, got 1.0"),
    "grid": ({"token_grid": (2, 2)}, r"token_grid must be a positive integer or 3 positive integers, got \(2, 2\)"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        EvaTransformer(**{"spatial_dims": 3, "in_channels": 24, "num_heads": 2} | kwargs)
