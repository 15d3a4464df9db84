"""Squeeze-and-excitation gate over the channels (Hu et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from custom_networks.checks import check_reduction, check_spatial_dims


class SqueezeExcitation(nn.Module):
    r"""Scale every channel by a gate computed from the means of all channels.

    .. math:: y = s \odot x, \qquad s = \sigma\bigl(W_2\,\mathrm{ReLU}(W_1\,\bar x)\bigr)

    with :math:`\bar x` the mean over all voxels and no biases::

        x (B, C, *S) -> mean (B, C) -> W1, ReLU (B, C/r) -> W2, sigmoid (B, C) -> * x -> y (B, C, *S)

    Differs from the paper: ``reduction`` is 4 by default (16 in the paper), because the first levels of a 3D network
    are narrow.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the input.
        reduction: the hidden width is max(1, C // reduction).

    Shape:
        ``(B, C, *spatial)`` to the same shape, any spatial size.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3, or ``reduction`` is below 1.

    Example:
        >>> SqueezeExcitation(3, 16)(torch.zeros(1, 16, 4, 6, 5)).shape
        torch.Size([1, 16, 4, 6, 5])

    Cost:
        Parameters ``2 C max(1, C // reduction)``. Time NC with N voxels; extra memory C per sample.

    References:
        J. Hu, L. Shen, G. Sun, "Squeeze-and-Excitation Networks", CVPR 2018, arXiv:1709.01507. Reference outputs:
        https://github.com/xmu-xiaoma666/External-Attention-pytorch.
    """

    def __init__(self, spatial_dims: int, in_channels: int, *, reduction: int = 4) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        hidden = check_reduction(in_channels, reduction)
        self.squeeze = nn.Linear(in_channels, hidden, bias=False)
        self.excite = nn.Linear(hidden, in_channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, C, *spatial)``.
        """
        return x * self.attention_map(x)

    def attention_map(self, x: Tensor) -> Tensor:
        """Return the gate ``(B, C, 1, ...)``, one number in (0, 1) per channel.

        Args:
            x: ``(B, C, *spatial)``.
        """
        hidden = torch.relu(self.squeeze(x.flatten(2).mean(2)))
        gate = torch.sigmoid(self.excite(hidden))
        return gate.reshape(list(gate.shape) + [1] * (x.dim() - 2))
