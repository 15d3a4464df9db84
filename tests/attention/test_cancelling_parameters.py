"""No parameter cancels, such as the bias of keys in a softmax, but for those that shipped weights hold."""

from __future__ import annotations

import pytest
import torch

from custom_networks.registry import ATTENTION
from tests.modules import randomised

KEPT = {
    # In the weights of the bundle with TransUnet. RotarySelfAttention inherits it: turned by its position it counts.
    "multi_head_self_attention": {"key.bias"},
    # In the weights of the bundle with AttentionUnet. The first cancels in the softmax; the others cancel in the
    # instance norm, and count without a norm.
    "non_local": {"phi.bias", "g.bias", "W.0.bias"},
}
VARIANTS = {
    "axial_attention": [{"sequential": True}],
    "efficient_multi_head_self_attention": [{"transform": False}, {"reduction": 1}],
    "polarized_self_attention": [{"mode": "sequential"}],
}
CASES = [(name, arguments) for name in ATTENTION for arguments in ({}, *VARIANTS.get(name, ()))]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("name", "arguments"), CASES, ids=str)
def test_every_parameter_counts(name, arguments, dims):
    torch.manual_seed(0)
    module = randomised(ATTENTION[name](dims, 16, **arguments))
    x = torch.randn(2, 16, *(4, 6, 5)[:dims], dtype=torch.float64)
    want, cancelling = module(x), set()
    for key, parameter in module.named_parameters():
        before = parameter.detach().clone()
        with torch.no_grad():
            parameter.add_(torch.randn_like(parameter))
        if torch.allclose(module(x), want, rtol=1e-9, atol=1e-9):
            cancelling.add(key)
        with torch.no_grad():
            parameter.copy_(before)
    assert cancelling == KEPT.get(name, set())
