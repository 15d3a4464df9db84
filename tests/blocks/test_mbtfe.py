"""Mbtfe against its formula, the original implementation and its own documentation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from custom_networks.blocks import Mbtfe
from tests import harness
from tests.modules import randomised
from tests.references import mbtfe as mbtfe_references
from tests.references.layers import State
from tests.references.oracles import compare_with_oracle


def _case(dims: int) -> harness.Case:
    def build(**kwargs) -> nn.Module:
        return Mbtfe(dims, 6, 8, **kwargs)

    return harness.Case.of(
        f"mbtfe-{dims}d", build, Mbtfe, (6, 4, 6, 5)[: dims + 1], out_channels=8, part_of="MbtfeUnet"
    )


@pytest.mark.parametrize(("case", "check"), harness.battery([_case(2), _case(3)]))
def test_battery(case, check):
    check(case)


ACTIVATIONS = {
    "identity": (None, lambda v: v),
    "relu": ("relu", lambda v: v.clamp(min=0)),
    "tanh": ("tanh", torch.tanh),
}


@pytest.mark.parametrize(("selector_act", "phi"), ACTIVATIONS.values(), ids=ACTIVATIONS.keys())
@pytest.mark.parametrize("norm", [("instance", {"affine": True}), "batch"], ids=["instance", "batch"])
@pytest.mark.parametrize("size", [(4, 6, 5), (3, 1, 7), (1, 1, 2), (5, 4)], ids=str)
def test_equals_the_formula(size, norm, selector_act, phi):
    module = randomised(Mbtfe(len(size), 3, 5, norm=norm, selector_act=selector_act))
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    want = mbtfe_references.mbtfe(x, module.state_dict(), phi)
    torch.testing.assert_close(module(x), want, rtol=1e-10, atol=1e-10)


def test_the_weights_are_those_of_the_sample_and_not_of_its_columns():
    """The first public version weighted along the last axis where the batch was as long as that axis."""
    module = randomised(Mbtfe(3, 2))
    x = torch.randn(3, 2, 4, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(module(x), torch.cat([module(sample[None]) for sample in x]))


@pytest.mark.parametrize("batch", [1, 2])
def test_checkpointing_keeps_the_gradients_and_a_tenth_of_the_tensors(batch):
    torch.manual_seed(0)
    plain = Mbtfe(3, 6).train()
    light = Mbtfe(3, 6, checkpointing=True).train()
    light.load_state_dict(plain.state_dict())
    found = []
    for module in (plain, light):
        x = torch.randn(batch, 6, 5, 4, 6, generator=torch.Generator().manual_seed(1)).requires_grad_()
        saved: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, to=saved: to.append(t.numel()) or t, lambda t: t):
            y = module(x)
        (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
        gradients = [x.grad, *(p.grad for p in module.parameters())]
        found.append((y, gradients, sum(n >= x.numel() for n in saved)))
    (y, gradients, many), (same, light_gradients, few) = found
    assert torch.equal(y, same)
    for want, got in zip(gradients, light_gradients, strict=True):
        assert torch.equal(got, want)
    assert many >= 20
    assert 10 * few <= many


def test_checkpointing_is_off_outside_training():
    module = randomised(Mbtfe(3, 6, checkpointing=True))
    x = torch.randn(1, 6, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        module(x)
    assert len(saved) > 20


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("channels", "width"), [(3, 8), (8, 8), (4, 5)])
def test_parameter_count(dims, channels, width):
    k = 3**dims
    branches = (1 + 3 * k) * channels * width + 3 * k * width**2 + 7 * 3 * width
    want = branches + (width + 1) * (width // 2) + 4 * (width // 2 + 1)
    assert sum(p.numel() for p in Mbtfe(dims, channels, width).parameters()) == want


BAD = {
    "dims": ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4; reshape"),
    "narrow": ({"in_channels": 1}, "^in_channels must be at least 2, got 1; use for example 8"),
    "narrow output": ({"out_channels": 1}, "^out_channels must be at least 2, got 1; use for example 8"),
    "checkpointing": ({"norm": "batch", "checkpointing": True}, "checkpointing must be off with batch norm, got True"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Mbtfe(**{"spatial_dims": 3, "in_channels": 8} | kwargs)


LAYERS = {"1": "0.0", "3": "1.0", "5_1": "2.0", "5_2": "2.1", "7_1": "3.0", "7_2": "3.1", "7_3": "3.2"}


def _renamed(state: State) -> State:
    """Map the original's names to ours; a bias before batch norm becomes part of its running mean."""
    renamed = {}
    for key, value in state.items():
        layer, _, what = key.partition(".")
        kind = layer.rstrip("_1234567")
        if kind == "fc":
            renamed[f"selector.{ {'1': 0, '2': 2}[layer[2:]] }.{what}"] = value
            continue
        name = layer.removeprefix(kind)
        if kind == "conv" and what == "bias":
            continue
        place = {"conv": "conv", "bn": "adn.N", "prelu": "adn.A"}[kind]
        shift = state.get(f"conv{name}.bias") if what == "running_mean" else None
        renamed[f"branches.{LAYERS[name]}.{place}.{what}"] = value if shift is None else value - shift
    return renamed


def test_original(oracle):
    reference = oracle("mbtfe")
    biases = {k: v for k, v in reference["state_dict"].items() if k.startswith("conv") and k.endswith("bias")}

    def names(state: State) -> State:
        return _renamed(state | biases if "bn1.running_mean" in state else state)

    compare_with_oracle(Mbtfe(3, 6, 8, norm="batch"), reference, names)
