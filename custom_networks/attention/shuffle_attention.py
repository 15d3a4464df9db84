"""Shuffle attention: a channel gate for one half of each group, a spatial one for the other (Zhang and Yang 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from custom_networks.checks import check_divides, check_spatial_dims


class ShuffleAttention(nn.Module):
    r"""Scale half of each group of channels by a channel gate, half by a voxel gate, then shuffle the channels.

    .. math:: y = \mathrm{shuffle}\bigl([\sigma(w_1 \bar u + b_1) \odot u;\;
                  \sigma(w_2\,\mathrm{IN}(v) + b_2) \odot v]\bigr)

    for the halves u and v of each of G groups, with :math:`\bar u` the mean over all voxels. The four vectors w and b
    and the scale and shift of the norm are shared by the groups; w starts at 0 and b at 1. The shuffle interleaves the
    first C/2 channels with the last::

        x (B, C, *S) = (B, G, 2, C/2G, *S) -+- u -> mean, w1, b1, sigmoid (B, G, C/2G) -> * u -+- shuffle -> y
                                            +- v -> IN, w2, b2, sigmoid (B, G, C/2G, *S) * v --+

    Differs from the paper: four groups by default (64 in the paper), because 3D networks have fewer channels. The norm
    is the paper's group norm, whose groups are single channels in the released code: an instance norm.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the input, even.
        groups: G, a divisor of C / 2.

    Shape:
        ``(B, C, *spatial)`` to the same shape, any spatial size (with one group at least two voxels).

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3, C is odd, or ``groups`` does not divide C / 2.

    Example:
        >>> ShuffleAttention(3, 16)(torch.zeros(1, 16, 4, 6, 5)).shape
        torch.Size([1, 16, 4, 6, 5])

    Cost:
        Parameters ``3C / G``. Time NC with N voxels; extra memory two maps of the input's size.

    References:
        Q.-L. Zhang, Y.-B. Yang, "SA-Net: Shuffle Attention for Deep Convolutional Neural Networks", ICASSP 2021,
        arXiv:2102.00240; https://github.com/wofmanaf/SA-Net. Reference outputs:
        https://github.com/xmu-xiaoma666/External-Attention-pytorch.
    """

    def __init__(self, spatial_dims: int, in_channels: int, *, groups: int = 4) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        if in_channels % 2:
            raise ValueError(f"in_channels must be even, got {in_channels}; use {in_channels + 1}")
        width = check_divides(in_channels // 2, groups, "groups", "in_channels / 2 =")
        self.groups = groups
        self.channel_weight = nn.Parameter(torch.zeros(width, 1))
        self.channel_bias = nn.Parameter(torch.ones(width, 1))
        self.spatial_weight = nn.Parameter(torch.zeros(width, 1))
        self.spatial_bias = nn.Parameter(torch.ones(width, 1))
        self.norm = nn.GroupNorm(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, C, *spatial)``.
        """
        y = x * self.attention_map(x)
        return y.unflatten(1, [2, x.shape[1] // 2]).transpose(1, 2).flatten(1, 2)

    def attention_map(self, x: Tensor) -> Tensor:
        """Return the gate ``(B, C, *spatial)`` in (0, 1), in the order of the input's channels.

        Args:
            x: ``(B, C, *spatial)``.
        """
        width = self.channel_weight.shape[0]
        halves = x.flatten(2).unflatten(1, [self.groups, 2, width])
        u, v = halves[:, :, 0], halves[:, :, 1]
        channel = torch.sigmoid(u.mean(3, keepdim=True) * self.channel_weight + self.channel_bias)
        normed = self.norm(v.flatten(0, 1)).unflatten(0, [-1, self.groups])
        spatial = torch.sigmoid(normed * self.spatial_weight + self.spatial_bias)
        return torch.stack([channel.expand_as(spatial), spatial], dim=2).reshape(x.shape)
