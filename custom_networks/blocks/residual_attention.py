"""A residual branch that holds an attention module and starts closed."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResidualAttention(nn.Module):
    r"""Add an attention module's output, scaled by a learned number that starts at zero.

    .. math:: y = x + \gamma\,\mathrm{attention}(x), \qquad \gamma = 0 \text{ at initialisation}

    A network with this block computes at first what it computed without; the first gradient of :math:`\gamma` is the
    product of the attention's output with the gradient of y, so a step opens the branch.

    Args:
        module: a module with the same shape in and out, whose output at initialisation is not zero.

    Shape:
        ``(B, C, *spatial)`` to the same shape.

    Example:
        >>> block = ResidualAttention(nn.Sigmoid())
        >>> block(torch.full((1, 1, 2, 2), 3.0)).unique()
        tensor([3.], grad_fn=<Unique2Backward0>)

    Cost:
        One parameter and those of the attention; two maps like x in training.

    References:
        T. Bachlechner et al., "ReZero is All You Need: Fast Convergence at Large Depth", UAI 2021, arXiv:2003.04887.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.attention = module
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x + gamma * attention(x)``.

        Args:
            x: ``(B, C, *spatial)``.
        """
        return x + self.gamma * self.attention(x)
