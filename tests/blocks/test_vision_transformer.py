"""TransformerLayer and VisionTransformer against their formulas, stored reference outputs and their documentation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from custom_networks.blocks import TransformerLayer, VisionTransformer
from tests import harness
from tests.modules import assert_permutes_voxels, on_tokens, randomised
from tests.references import layers as references
from tests.references import transformer as transformer_references
from tests.references.layers import State
from tests.references.oracles import compare_with_oracle

POSITIONS = ("learned", "rotary", "none")


def _case(dims: int, position_embedding: str) -> harness.Case:
    small = {"num_layers": 1, "num_heads": 2, "position_embedding": position_embedding, "token_grid": 3}

    def build(**kwargs) -> nn.Module:
        return VisionTransformer(dims, 12, **small | kwargs)

    shape = (12, 4, 6, 5)[: dims + 1]
    name = f"vision_transformer-{dims}d-{position_embedding}"
    part_of = "TransUnet" if position_embedding == "learned" else ""
    return harness.Case.of(name, build, VisionTransformer, shape, out_channels=12, part_of=part_of)


CHECKS = (*harness.MODULE_CHECKS, harness.check_contract, harness.check_unit_and_odd_axes)


@pytest.mark.parametrize(("case", "check"), harness.battery([_case(2, "learned"), _case(3, "rotary")], CHECKS))
def test_battery(case, check):
    check(case)


@pytest.mark.parametrize("size", [(3, 4, 2), (1, 5, 3), (4, 5)], ids=str)
@pytest.mark.parametrize("rotary", [False, True], ids=["plain", "rotary"])
def test_layer_equals_the_formula(size, rotary):
    module = TransformerLayer(len(size), 14, num_heads=2, rotary=rotary)
    transformer_references.use_exact_frequencies(randomised(module))
    x = torch.randn(2, 14, *size, dtype=torch.float64)
    want = transformer_references.transformer_layer(x, module.state_dict(), 2, rotary)
    torch.testing.assert_close(module(x), want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [(3, 4, 2), (4, 5)], ids=str)
@pytest.mark.parametrize("position_embedding", POSITIONS)
def test_equals_the_formula(size, position_embedding):
    module = VisionTransformer(
        len(size),
        14,
        num_layers=2,
        num_heads=2,
        position_embedding=position_embedding,
        token_grid=(2, 5, 3)[: len(size)],
        dropout=0.5,  # off in eval
    )
    transformer_references.use_exact_frequencies(randomised(module))
    x = torch.randn(2, 14, *size, dtype=torch.float64)
    state = module.state_dict()
    want = transformer_references.vision_transformer(x, state, 2, rotary=position_embedding == "rotary")
    torch.testing.assert_close(module(x), want, rtol=1e-10, atol=1e-10)
    assert ("positions.table" in state) == (position_embedding == "learned")


def test_without_positions_the_voxels_are_a_set():
    module = VisionTransformer(3, 8, num_layers=2, num_heads=2, position_embedding="none")
    assert_permutes_voxels(randomised(module), 8)


@pytest.mark.parametrize("position_embedding", POSITIONS[:2])
def test_with_positions_the_voxels_are_no_set(position_embedding):
    module = VisionTransformer(3, 12, num_layers=2, num_heads=2, position_embedding=position_embedding)
    with pytest.raises(AssertionError):
        assert_permutes_voxels(randomised(module), 12)


@pytest.mark.parametrize("place", [2, 4])
def test_either_dropout_of_the_perceptron_at_one_leaves_its_bias_or_nothing(place):
    module = randomised(TransformerLayer(2, 8, num_heads=2, dropout=0.0)).train()
    module.mlp[place].p = 1.0
    x = torch.randn(2, 8, 3, 4, dtype=torch.float64)
    state = module.state_dict()
    normed = transformer_references.layer_norm(x, state, "attention_norm")
    attention = references.below(state, "attention")
    want = x + transformer_references.self_attention(normed, attention, 2, rotary=False)
    if place == 2:
        want = want + state["mlp.3.bias"].view(-1, 1, 1)
    torch.testing.assert_close(module(x), want, rtol=1e-10, atol=1e-10)


def test_dropout_follows_the_positions():
    module = randomised(VisionTransformer(2, 8, num_layers=1, num_heads=2, token_grid=3))
    module.dropout.train().p = 1.0
    x = torch.randn(1, 8, 3, 4, dtype=torch.float64)
    without = dict(module.state_dict())
    without["positions.table"] = torch.zeros_like(without["positions.table"])
    want = transformer_references.vision_transformer(torch.zeros_like(x), without, 2, rotary=False)
    torch.testing.assert_close(module(x), want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("ratio", [4, 3])
def test_layer_parameter_count(ratio, dims, rotary):
    module = TransformerLayer(dims, 24, num_heads=4, rotary=rotary, mlp_ratio=ratio)
    assert sum(p.numel() for p in module.parameters()) == (4 + 2 * ratio) * 24**2 + (9 + ratio) * 24


@pytest.mark.parametrize(("position_embedding", "table"), [("learned", 24 * 30), ("rotary", 0), ("none", 0)])
def test_parameter_count(position_embedding, table):
    module = VisionTransformer(
        3, 24, num_layers=3, num_heads=4, position_embedding=position_embedding, token_grid=(2, 3, 5)
    )
    assert sum(p.numel() for p in module.parameters()) == 3 * (12 * 24**2 + 13 * 24) + 2 * 24 + table


BAD = {
    "dims": ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4; reshape"),
    "dims-none": ({"spatial_dims": 4, "position_embedding": "none"}, "spatial_dims must be 2 or 3, got 4; reshape"),
    "ratio": ({"mlp_ratio": 0}, "mlp_ratio must be at least 1, got 0; use for example 4"),
    "layers": ({"num_layers": 0}, "num_layers must be at least 1, got 0; leave the transformer out instead"),
    "positions": (
        {"position_embedding": "sine"},
        r"position_embedding must be one of \('learned', 'rotary', 'none'\), got 'sine'; choose one",
    ),
    "grid": ({"token_grid": (2, 2)}, r"token_grid must be a positive integer or 3 positive integers, got \(2, 2\)"),
    "heads": ({"num_heads": 7}, "num_heads must divide in_channels 24, got 7; use one of 1, 2, 3, 4"),
    "narrow": (
        {"position_embedding": "rotary"},
        "rotary positions need heads of at least 6 channels, got 2; use fewer",
    ),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        VisionTransformer(**{"spatial_dims": 3, "in_channels": 24} | kwargs)


# --- reference outputs, all with tokens of a 3 x 4 grid and perceptrons only twice as wide as the tokens

NARROW = {"num_layers": 2, "num_heads": 4, "mlp_ratio": 2}
NAMES = {"attn.out": "attention.output", "attn": "attention", "ffn_norm": "mlp_norm", "ffn.fc1": "mlp.0"}
NAMES |= {"ffn.fc2": "mlp.3", "layer.": "layers.", "encoder.encoder_norm": "norm", "encoder_norm": "norm"}
NAMES |= {"encoder.layers": "layers"}


def _renamed(state: State) -> State:
    found = {}
    for key, value in state.items():
        for old, new in NAMES.items():
            key = key.replace(old, new)
        found[key] = value
    return found


@pytest.mark.parametrize("dims", [2, 3])
def test_original_layer(oracle, dims):
    module = TransformerLayer(dims, 32, num_heads=4, mlp_ratio=2)
    compare_with_oracle(module, oracle("vit_block"), _renamed, forward=on_tokens(module, dims, (3, 4)))


@pytest.mark.parametrize("dims", [2, 3])
def test_original_encoder(oracle, dims):
    module = VisionTransformer(dims, 32, **NARROW, position_embedding="none")
    compare_with_oracle(module, oracle("vit_encoder_2l"), _renamed, forward=on_tokens(module, dims, (3, 4)))


def _from_lucidrains(state: State) -> State:
    """Split the joint projection and take the pairs [attention, perceptron] apart."""
    names = {"0.norm": "attention_norm", "0.fn.to_out.0": "attention.output"}
    names |= {"1.norm": "mlp_norm", "1.fn.net.0": "mlp.0", "1.fn.net.3": "mlp.3"}
    found = {}
    for key, value in state.items():
        _, layer, place = key.split(".", 2)
        if place == "0.fn.to_qkv.weight":
            for name, part in zip(("query", "key", "value"), value.chunk(3), strict=True):
                found[f"layers.{layer}.attention.{name}.weight"] = part
        else:
            old, kind = place.rsplit(".", 1)
            found[f"layers.{layer}.{names[old]}.{kind}"] = value
    return found


@pytest.mark.parametrize("dims", [2, 3])
def test_second_implementation_which_has_fewer_biases_and_no_last_norm(oracle, dims):
    module = VisionTransformer(dims, 32, **NARROW, position_embedding="none", norm_eps=1e-5)
    module.norm = nn.Identity()
    for layer in module.layers:
        for name in ("query", "key", "value"):
            getattr(layer.attention, name).register_parameter("bias", None)
    reference = oracle("note2_transformer_2l")
    compare_with_oracle(module, reference, _from_lucidrains, forward=on_tokens(module, dims, (3, 4)))


def _scaling_the_identity(x: Tensor, state: State, num_heads: int, rotary: bool) -> Tensor:
    """The fault of the original: the layer scale multiplies the identity and not the branch."""
    ours, scale = transformer_references, (-1, *(1,) * (x.dim() - 2))
    attention = references.below(state, "attention")
    h = ours.self_attention(ours.layer_norm(x, state, "attention_norm"), attention, num_heads, rotary)
    h = h + state["ls1.gamma"].view(scale) * x
    return ours.perceptron(ours.layer_norm(h, state, "mlp_norm"), state) + state["ls2.gamma"].view(scale) * h


def test_a_layer_scale_on_the_identity_is_something_else(oracle, monkeypatch):
    reference = oracle("transunet3d_vit_layerscale_buggy")
    state = {key: value.double() for key, value in _renamed(reference["state_dict"]).items()}
    tokens = references.pointwise(reference["inputs"][0].double(), state, "embeddings.patch_embeddings")
    table = state["embeddings.position_embeddings"].transpose(1, 2).reshape(1, 32, 3, 2, 4)
    state = {key: value for key, value in state.items() if not key.startswith("embeddings.")}
    state["positions.table"] = table
    want = reference["output_eval"][0].double()

    module = VisionTransformer(3, 32, **NARROW, token_grid=(3, 2, 4)).double().eval()
    module.load_state_dict({key: value for key, value in state.items() if ".ls" not in key})
    assert (module(tokens) - want).abs().max() > 1e-2

    formula: Callable[..., Tensor] = transformer_references.vision_transformer
    torch.testing.assert_close(module(tokens), formula(tokens, state, 4, rotary=False), rtol=1e-10, atol=1e-10)
    monkeypatch.setattr(transformer_references, "transformer_layer", _scaling_the_identity)
    torch.testing.assert_close(formula(tokens, state, 4, rotary=False), want, rtol=1e-4, atol=1e-5)
