"""TransposedDecoder against its formula, released outputs and its own documentation."""

from __future__ import annotations

from math import prod

import pytest
import torch

from custom_networks.blocks import TransposedDecoder
from custom_networks.blocks.tokens import decoder_widths
from tests.modules import randomised
from tests.references import eva as slow
from tests.references.primus_oracles import compare_with_primus_oracle


@pytest.mark.parametrize(
    ("size", "strides"),
    [((2, 1, 3), (2, 2)), ((1, 2, 1), ((3, 1, 2), (1, 2, 1), 2)), ((2, 3), (2, (1, 2))), ((2, 2, 2), (2,))],
    ids=str,
)
def test_equals_the_formula(size, strides):
    module = randomised(TransposedDecoder(len(size), 20, 3, strides=strides))
    x = torch.randn(2, 20, *size, dtype=torch.float64)
    maps = module(x)
    for got, want in zip(maps, slow.decoder(x, module.state_dict()), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


ORACLES = {
    "primus_decoder": (48, 3, (2, 2, 2)),
    "primus_decoder_aniso": (36, 2, ((2, 1, 1), (2, 2, 1), 2, 2)),
}


@pytest.mark.parametrize("name", ORACLES)
def test_equals_the_released_decoder(oracle, name):
    stored, (width, classes, strides) = oracle(name), ORACLES[name]
    module = TransposedDecoder(3, width, classes, strides=strides)
    module.load_state_dict(stored["state_dict"])
    compare_with_primus_oracle(module, stored, lambda x: module(x)[-1])


def test_a_voxel_depends_on_its_own_token_only():
    module = randomised(TransposedDecoder(3, 20, 2, strides=(2, 2)))
    x = torch.randn(1, 20, 3, 3, 3, dtype=torch.float64)
    other = x.clone()
    other[:, :, 1, 2, 0] += 1
    changed = (module(x)[-1] != module(other)[-1]).any(1)[0]
    own = torch.zeros_like(changed)
    own[4:8, 8:, :4] = True
    assert torch.equal(changed, own)


WIDTHS = {
    (396, 2): [88, 16],
    (792, 2): [136, 24],
    (864, 2): [144, 24],
    (1056, 2): [168, 24],
    (396, 14): [160, 64],
    (396, 200): [400, 400],
    (24, 3): [16, 8],
}


@pytest.mark.parametrize(("given", "inner"), WIDTHS.items(), ids=str)
def test_widths_are_the_released(given, inner):
    assert decoder_widths(*given, 3) == [given[0], *inner, given[1]]


def test_parameter_count():
    module = TransposedDecoder(3, 48, 3, strides=(2, (1, 2, 2), 2))
    widths, voxels = module.widths, (8, 4, 8)
    want = sum((s * a + 1) * b for s, a, b in zip(voxels, widths[:-1], widths[1:], strict=True))
    assert sum(p.numel() for p in module.parameters()) == want + 2 * sum(widths[1:-1])
    assert prod(module.decode[1][0].weight.shape[2:]) == 4


BAD = {
    "dims": ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1"),
    "none": ({"strides": ()}, "strides must name at least 1 step, got none; use for example"),
    "strides": ({"strides": ((2, 2), 2)}, "strides must be a positive integer or 3 positive integers, got"),
    "width": ({"out_channels": 0}, "out_channels must be at least 1, got 0"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        TransposedDecoder(**{"spatial_dims": 3, "in_channels": 24, "out_channels": 2} | kwargs)
