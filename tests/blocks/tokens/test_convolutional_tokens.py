"""ResidualUnit and ConvolutionalTokens against their formulas, released outputs and their own documentation."""

from __future__ import annotations

from math import prod

import pytest
import torch

from custom_networks.blocks import ConvolutionalTokens, ResidualUnit
from tests.modules import randomised
from tests.references import eva as slow
from tests.references.primus_oracles import compare_with_primus_oracle, once

LEAKY = ("leakyrelu", {"negative_slope": 0.01})
UNITS = {
    "identity": ((4, 5, 3), 6, {}),
    "wider": ((4, 5, 3), 4, {"bias": True, "kernel_size": (1, 3, 5)}),
    "pooled": ((4, 6, 2), 6, {"strides": 2}),
    "pooled and wider": ((4, 6, 3), 4, {"strides": (2, 3, 1), "act": LEAKY}),
    "2d": ((4, 6), 4, {"strides": (1, 2)}),
}


@pytest.mark.parametrize(("size", "in_channels", "form"), UNITS.values(), ids=UNITS.keys())
def test_unit_equals_the_formula(size, in_channels, form):
    module = randomised(ResidualUnit(len(size), in_channels, 6, **form))
    x = torch.randn(2, in_channels, *size, dtype=torch.float64)
    steps = form.get("strides", 1)
    steps = (steps,) * len(size) if isinstance(steps, int) else steps
    want = slow.residual_unit(x, module.state_dict(), steps, 0.01 if "act" in form else 0.0)
    torch.testing.assert_close(module(x), want, rtol=1e-10, atol=1e-10)


FORMS = {
    "relu": ((4, 8, 4), [(2, 2, 2)] * 2, {}),
    "direct": ((4, 8, 4), [(2, 2, 2)] * 2, {"direct": True, "act": LEAKY, "num_units": (2, 1)}),
    "slices": ((3, 8, 4), [(1, 2, 2), (3, 2, 1)], {"direct": True, "kernel_size": [(1, 3, 3), (1, 3, 3), 3]}),
    "2d": ((8, 4), [(2, 2)] * 2, {"direct": True, "act": LEAKY}),
}


@pytest.mark.parametrize(("size", "strides", "form"), FORMS.values(), ids=FORMS.keys())
def test_equals_the_formula(size, strides, form):
    module = randomised(ConvolutionalTokens(len(size), 2, features=(4, 4, 6, 10), strides=strides, **form))
    x = torch.randn(2, 2, *size, dtype=torch.float64)
    want = slow.convolutional_tokens(x, module.state_dict(), strides, 0.01 if "act" in form else 0.0)
    torch.testing.assert_close(module(x), want, rtol=1e-9, atol=1e-9)


ORACLES = {
    "primus_embed_v2": {"features": (8, 8, 16, 32, 36)},
    "primus_embed_v3": {"features": (6, 10, 12, 20, 24), "num_units": (2, 1, 1), "direct": True, "act": LEAKY},
}


@pytest.mark.parametrize("name", ORACLES)
def test_equals_the_released_tokeniser(oracle, name):
    stored = oracle(name)
    module = ConvolutionalTokens(3, 2, **ORACLES[name])
    module.load_state_dict(once(stored["state_dict"]))
    compare_with_primus_oracle(module, stored)


def test_a_fresh_projection_hardly_counts():
    module = ConvolutionalTokens(3, 1, features=(4, 4, 8, 12), direct=True)
    assert [(scale.shape, scale.item()) for scale in module.scale_proj_to_tokens] == [((), pytest.approx(1e-5))] * 2
    assert [tuple(layer.weight.shape[2:]) for layer in module.proj_to_tokens] == [(4, 4, 4), (2, 2, 2)]


@pytest.mark.parametrize("direct", [False, True])
def test_parameter_count(direct):
    f, k = (4, 4, 6, 10), 27

    def unit(before: int, width: int, bias: bool) -> int:
        wider = before * width + 2 * width if before != width else 0
        return k * width * (before + width) + 4 * width + (2 * width if bias else 0) + wider

    module = ConvolutionalTokens(3, 2, features=f, num_units=(1, 2), direct=direct)
    want = unit(2, 4, True) + unit(4, 4, False) + unit(4, 6, False) + unit(6, 6, False) + (6 + 1) * 10
    want += sum((prod((s,) * 3) * width + 1) * 10 + 1 for s, width in ((4, 4), (2, 4))) if direct else 0
    assert sum(p.numel() for p in module.parameters()) == want


BAD = {
    "dims": ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4"),
    "levels": ({"features": (4, 8)}, r"features must name a stem, at least 1 stage and the tokens, got \(4, 8\)"),
    "width": ({"features": (4, 0, 8)}, "features must be at least 1, got 0"),
    "strides": ({"strides": (2, 2)}, r"strides must have 1 entries .* got 2"),
    "kernels": ({"kernel_size": (3, 3, 3)}, r"kernel_size must have 2 entries .* got 3"),
    "even": ({"kernel_size": 2}, "kernel_size must be odd and positive, got"),
    "units": ({"num_units": (1, 1)}, r"num_units must be .* 1 positive integers .* got \(1, 1\); give one for each"),
    "no units": ({"num_units": 0}, "num_units must be a positive integer or .* got 0; give one for each"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ConvolutionalTokens(**{"spatial_dims": 3, "in_channels": 1, "features": (4, 6, 8)} | kwargs)
