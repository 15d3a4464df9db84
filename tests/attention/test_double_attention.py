"""DoubleAttention against its formula, a faulty implementation and its own documentation."""

from __future__ import annotations

import pytest
import torch

from custom_networks.attention.double_attention import DoubleAttention
from tests.modules import randomised
from tests.references import layers as references


def reference(x, state, axes=(2, 1)):
    """W_o (A softmax_n(B)^T) softmax_k(V); ``axes`` are those of the two softmaxes."""
    voxels = x.flatten(2)
    a = references.pointwise(voxels, state, "values")
    b = references.softmax(references.pointwise(voxels, state, "gather"), axes[0])
    v = references.softmax(references.pointwise(voxels, state, "distribute"), axes[1])
    z = torch.einsum("bmk,bkn->bmn", torch.einsum("bmn,bkn->bmk", a, b), v)
    return references.pointwise(z, state, "out").reshape(x.shape)


@pytest.mark.parametrize("size", [(4, 6, 5), (3, 1, 7), (1, 1, 1), (5, 4), (1, 9)], ids=str)
@pytest.mark.parametrize(("reduction", "key_reduction"), [(4, None), (2, 5), (32, 1)])
def test_equals_the_formula(size, reduction, key_reduction):
    module = randomised(DoubleAttention(len(size), 10, reduction=reduction, key_reduction=key_reduction))
    x = torch.randn(2, 10, *size, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module.state_dict()), rtol=1e-10, atol=1e-10)


def test_attention_map_sums_to_one_over_the_voxels():
    module = randomised(DoubleAttention(3, 8))
    weights = module.attention_map(torch.randn(2, 8, 4, 3, 5, dtype=torch.float64))
    assert weights.shape == (2, 2, 4, 3, 5)
    assert weights.min() > 0
    torch.testing.assert_close(weights.sum((2, 3, 4)), torch.ones(2, 2, dtype=torch.float64))


def test_every_voxel_gets_a_mean_of_the_descriptors():
    module = randomised(DoubleAttention(3, 8))
    with torch.no_grad():
        module.distribute.weight.zero_()
        module.distribute.bias.zero_()
    y = module(torch.randn(2, 8, 4, 3, 5, dtype=torch.float64)).flatten(2)
    torch.testing.assert_close(y, y[:, :, :1].expand_as(y))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("reduction", "key_reduction", "m", "k"), [(4, None, 4, 4), (2, 5, 8, 3), (32, 1, 1, 16)])
def test_parameter_count(dims, reduction, key_reduction, m, k):
    c = 16
    module = DoubleAttention(dims, c, reduction=reduction, key_reduction=key_reduction)
    assert sum(p.numel() for p in module.parameters()) == (c + 1) * m + c * k + (c + 1) * k + (m + 1) * c


BAD = {
    "dims": ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1; reshape"),
    "reduction": ({"reduction": 0}, "reduction must be at least 1, got 0; use 1"),
    "key-reduction": ({"key_reduction": -2}, "key_reduction must be at least 1, got -2; use 1"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        DoubleAttention(**{"spatial_dims": 3, "in_channels": 16} | kwargs)


LAYERS = {"convA": "values", "convB": "gather", "convV": "distribute", "conv_reconstruct": "out"}


def _names(state: dict) -> dict:
    renamed = {}
    for key, value in state.items():
        layer, name = key.split(".")
        renamed[f"{LAYERS[layer]}.{name}"] = value.flatten(1) if value.dim() == 4 else value
    return renamed


def test_original_with_both_softmaxes_over_the_batch(oracle):
    """The original names no axis and gets the batch: the output of one sample depends on the others.

    Ours must not agree with it, and the formula with the same fault must: then the softmax is all that differs.
    """
    stored = oracle("a2_buggy_batch_softmax")
    state, x, want = _names(stored["state_dict"]), stored["inputs"][0], stored["output_eval"][0]
    torch.testing.assert_close(reference(x, state, axes=(0, 0)), want, rtol=1e-4, atol=1e-4)

    module = DoubleAttention(2, 16, reduction=2, key_reduction=4).eval()
    del state["gather.bias"]  # it cancels in the softmax
    module.load_state_dict(state)
    got = module(x)
    assert (got - want).abs().max() > 0.1 * want.abs().max()
    torch.testing.assert_close(got[:1], module(x[:1]))
