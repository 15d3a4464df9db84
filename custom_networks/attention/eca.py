"""ECA: a channel gate from each channel's neighbours (Wang et al. 2020)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from custom_networks.checks import check_odd, check_spatial_dims


class Eca(nn.Module):
    r"""Scale every channel by a gate computed from the means of the k channels around it.

    .. math:: y = \sigma(w * \bar x) \odot x, \qquad
              k = \left|\frac{\log_2 C + 1}{2}\right|_\text{odd}

    with :math:`\bar x` the mean over all voxels and :math:`*` a convolution along the channels, zeros outside and no
    bias::

        x (B, C, *S) -> mean (B, 1, C) -> conv k, sigmoid (B, C) -> * x -> y (B, C, *S)

    Differs from the paper: None. Of the odd numbers the nearest to the value is taken, or the larger of two: 3 for 8 to
    127 channels, 5 for 128 to 2047. (The authors' code asks the user for k.)

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the input.
        kernel_size: odd k; ``None`` takes the formula.

    Shape:
        ``(B, C, *spatial)`` to the same shape, any spatial size.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3, or ``kernel_size`` is even or below 1.

    Example:
        >>> Eca(3, 16)(torch.zeros(1, 16, 4, 6, 5)).shape
        torch.Size([1, 16, 4, 6, 5])

    Cost:
        Parameters ``k``. Time NC with N voxels; extra memory C per sample.

    References:
        Q. Wang, B. Wu, P. Zhu, P. Li, W. Zuo, Q. Hu, "ECA-Net: Efficient Channel Attention for Deep Convolutional
        Neural Networks", CVPR 2020, arXiv:1910.03151; https://github.com/BangguWu/ECANet. Reference outputs:
        https://github.com/xmu-xiaoma666/External-Attention-pytorch. That version adds a bias.
    """

    def __init__(self, spatial_dims: int, in_channels: int, *, kernel_size: int | None = None) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        if kernel_size is None:
            kernel_size = int((math.log2(in_channels) + 1) / 2) | 1
        check_odd(kernel_size, "kernel_size")
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)

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
        gate = torch.sigmoid(self.conv(x.flatten(2).mean(2).unsqueeze(1))).squeeze(1)
        return gate.reshape(list(gate.shape) + [1] * (x.dim() - 2))
