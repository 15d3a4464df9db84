"""The rotary angles and their application against complex numbers and the released tables."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from custom_networks.blocks.tokens import rotary_angles, rotary_frequencies, turn_neighbours
from tests.references import eva as slow


def _angles(head: int, size: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    count = head // (2 * len(size))
    return rotary_angles(rotary_frequencies(count, slow.BASE).to(dtype), list(size))


def _exact(head: int, size: tuple[int, ...]) -> Tensor:
    return rotary_angles(torch.tensor(slow.frequencies(head // (2 * len(size))), dtype=torch.float64), list(size))


@pytest.mark.parametrize(("head", "size"), [(12, (2, 3, 4)), (14, (3, 1, 2)), (66, (2, 2, 3)), (10, (4, 3))], ids=str)
def test_turning_equals_complex_numbers(head, size):
    """A rest of 2 channels of 14 and of 66 in 3D and of 2 of 10 in 2D stays."""
    angles, x = _exact(head, size), torch.randn(2, 3, math.prod(size), head, dtype=torch.float64)
    got = turn_neighbours(x, angles.cos(), angles.sin())
    torch.testing.assert_close(got, slow.turned(x, size), rtol=1e-12, atol=1e-12)


def test_equals_the_released_table_and_its_application(oracle):
    stored = oracle("primus_rope3d")
    tables = [(case["kwargs"], case["table"]) for case in (stored, *stored["cases"])]
    assert len(tables) == 6
    for arguments, table in tables:
        sine, cosine = table.chunk(2, dim=-1)
        angles = _angles(arguments["head_dim"], tuple(arguments["feat_shape"]))
        for values, want in ((angles.sin(), sine), (angles.cos(), cosine)):
            torch.testing.assert_close(values.repeat_interleave(2, dim=-1), want, rtol=0, atol=1e-5)
    (x,) = stored["inputs"]
    x.requires_grad_()
    angles = _angles(24, (3, 2, 4))
    y = turn_neighbours(x, angles.cos(), angles.sin())
    torch.testing.assert_close(y, stored["output_eval"][0], rtol=0, atol=1e-5)
    (y * stored["cotangent"][0]).sum().backward()
    torch.testing.assert_close(x.grad, stored["grad_input_eval"][0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(4, 5, 3), (6, 5)], ids=str)
def test_products_depend_on_the_difference_of_places(size):
    q, k = torch.randn(2, 24, dtype=torch.float64)
    angles = _exact(24, size)
    turned = [
        turn_neighbours(y.expand(1, 1, len(angles), 24), angles.cos(), angles.sin()).unflatten(2, size)[0, 0]
        for y in (q, k)
    ]
    shifted = [
        tuple(slice(s, None) for s in (1, 2, 1)[: len(size)]),
        tuple(slice(None, -s) for s in (1, 2, 1)[: len(size)]),
    ]
    products = [(turned[0][first] * turned[1][second]).sum(-1) for first, second in (shifted, shifted[::-1])]
    for product in products:
        torch.testing.assert_close(product, product.flatten()[0].expand_as(product), rtol=1e-10, atol=1e-10)
    assert not torch.allclose(products[0].flatten()[0], products[1].flatten()[0])


def test_the_type_of_the_features_stays():
    angles = _angles(12, (2, 2, 2))
    x = torch.randn(1, 1, 8, 12).bfloat16()
    assert turn_neighbours(x, angles.cos(), angles.sin()).dtype == torch.bfloat16
