"""ParNetAttention against its formula and its own documentation."""

from __future__ import annotations

import pytest
import torch

from custom_networks.attention.par_net_attention import ParNetAttention
from tests.modules import randomised
from tests.references import layers as references

INSTANCE = ("instance", {"affine": True})
BATCH = "batch"


def branch(x, state, name):
    y = references.convolve(x, state[f"{name}.0.weight"])
    if f"{name}.1.weight" in state:
        return references.normalise(y, state, f"{name}.1")
    return y + state[f"{name}.0.bias"].view(-1, *(1,) * (x.dim() - 2))


def reference(x, state):
    """SiLU(norm(conv k) + norm(conv 1) + x sigmoid(W mean(x) + b))."""
    mean = x.flatten(2).sum(2) / x[0, 0].numel()
    gate = 1 / (1 + (-references.pointwise(mean, state, "excite")).exp())
    y = branch(x, state, "wide") + branch(x, state, "pointwise")
    y = y + x * gate.reshape(*gate.shape, *(1,) * (x.dim() - 2))
    return y / (1 + (-y).exp())


@pytest.mark.parametrize("norm", [INSTANCE, BATCH, None], ids=["instance", "batch", "no-norm"])
@pytest.mark.parametrize(
    ("size", "kernel_size"),
    [((4, 6, 5), 3), ((3, 1, 7), (1, 3, 5)), ((5, 4), 3), ((1, 9), (3, 1))],
    ids=str,
)
def test_equals_the_formula(norm, size, kernel_size):
    module = randomised(ParNetAttention(len(size), 6, kernel_size=kernel_size, norm=norm))
    x = torch.randn(2, 6, *size, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module.state_dict()), rtol=1e-10, atol=1e-10)


def test_gate_depends_on_the_mean_alone():
    module = randomised(ParNetAttention(3, 6))
    x = torch.randn(2, 6, 4, 3, 5, dtype=torch.float64)
    gate = module.attention_map(x)
    assert gate.shape == (2, 6, 1, 1, 1)
    assert 0 < gate.min() < gate.max() < 1
    assert (gate[0] != gate[1]).all()  # it would be equal behind an instance norm
    torch.testing.assert_close(module.attention_map(x.flip(2).mean(4, keepdim=True)), gate)


@pytest.mark.parametrize(("dims", "kernel_size", "taps"), [(2, 3, 9), (3, 3, 27), (3, (1, 3, 5), 15)])
@pytest.mark.parametrize("channels", [1, 16])
def test_parameter_count(dims, kernel_size, taps, channels):
    module = ParNetAttention(dims, channels, kernel_size=kernel_size)
    assert sum(p.numel() for p in module.parameters()) == (taps + 2) * channels**2 + 5 * channels


BAD = {
    "dims": ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1; reshape"),
    "zero": ({"kernel_size": 0}, "kernel_size must be .* got 0; use"),
    "axes": ({"kernel_size": (3, 3)}, r"kernel_size must be .* got \(3, 3\); use"),
    "even": ({"kernel_size": (3, 3, 2)}, r"kernel_size must be odd and positive, got \(3, 3, 2\); .* \(3, 3, 3\)"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ParNetAttention(**{"spatial_dims": 3, "in_channels": 16} | kwargs)
