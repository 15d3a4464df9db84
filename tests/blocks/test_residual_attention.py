"""ResidualAttention against its formula."""

from __future__ import annotations

import torch
from torch import nn

from custom_networks.attention import NonLocal
from custom_networks.blocks import ResidualAttention
from tests.modules import randomised


def test_equals_the_formula():
    block = ResidualAttention(randomised(NonLocal(3, 8))).double().eval()
    x = torch.randn(2, 8, 4, 3, 5, dtype=torch.float64)
    assert torch.equal(block(x), x), "the branch is open at initialisation"
    nn.init.constant_(block.gamma, -0.7)
    torch.testing.assert_close(block(x), x - 0.7 * block.attention(x), rtol=1e-12, atol=1e-12)


def test_the_first_gradient_opens_the_branch():
    block = ResidualAttention(nn.Sigmoid())
    x = torch.randn(2, 3, 4, 5)
    weight = torch.randn(2, 3, 4, 5)
    (block(x) * weight).sum().backward()
    torch.testing.assert_close(block.gamma.grad, (weight * x.sigmoid()).sum().reshape(1))
