"""Spatial group-wise enhancement: a spatial gate per group of channels (Li et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from custom_networks.checks import check_divides, check_spatial_dims


class SpatialGroupEnhance(nn.Module):
    r"""Scale each group of channels by a gate that says how alike a voxel is to the mean of the group.

    .. math:: y_i = \sigma(\gamma\,\hat c_i + \beta) \odot x_i, \qquad
              \hat c_i = \frac{c_i - \mu}{\sqrt{\sigma^2 + \epsilon}}, \qquad
              c_i = \bar x^\top x_i

    for the vectors :math:`x_i` of one group at voxel i, their mean :math:`\bar x` over all voxels, and mean
    :math:`\mu` and variance :math:`\sigma^2` of c over all voxels; :math:`\gamma` and :math:`\beta` are one number per
    group and start at 0 and 1::

        x (B, C, *S) = (B, G, C/G, *S) -> mean (B, G, C/G) -> dot product with x (B, G, *S)
                     -> normalise over *S, scale, shift, sigmoid (B, G, *S) -> * x -> y (B, C, *S)

    Differs from the paper: the deviation is the root of the variance plus 1e-5 (in the paper the root plus a small
    number), so that a constant input has a finite gradient; the variance divides by N (by N - 1 in the authors' code).
    Four groups by default (64 in the paper), because 3D networks have fewer channels.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the input.
        groups: G, a divisor of C.

    Shape:
        ``(B, C, *spatial)`` to the same shape, any spatial size.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3, or ``groups`` does not divide C.

    Example:
        >>> SpatialGroupEnhance(3, 16)(torch.zeros(1, 16, 4, 6, 5)).shape
        torch.Size([1, 16, 4, 6, 5])

    Cost:
        Parameters ``2G``. Time NC with N voxels; extra memory G maps of one channel, and one map of the input's size
        that is not kept.

    References:
        X. Li, X. Hu, J. Yang, "Spatial Group-wise Enhance: Improving Semantic Feature Learning in Convolutional
        Networks", 2019, arXiv:1905.09646; https://github.com/implus/PytorchInsight.
    """

    def __init__(self, spatial_dims: int, in_channels: int, *, groups: int = 4) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        check_divides(in_channels, groups, "groups")
        self.weight = nn.Parameter(torch.zeros(groups))
        self.bias = nn.Parameter(torch.ones(groups))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, C, *spatial)``.
        """
        gate = self.attention_map(x)
        y = x.unflatten(1, [gate.shape[1], x.shape[1] // gate.shape[1]]) * gate.unsqueeze(2)
        return y.flatten(1, 2)

    def attention_map(self, x: Tensor) -> Tensor:
        """Return the gate ``(B, G, *spatial)``, in (0, 1).

        Args:
            x: ``(B, C, *spatial)``.
        """
        groups = self.weight.shape[0]
        voxels = x.flatten(2).unflatten(1, [groups, x.shape[1] // groups])
        if x.dtype != torch.float64:
            voxels = voxels.float()  # in half precision the products overflow
        similarity = (voxels * voxels.mean(3, keepdim=True)).sum(2)
        similarity = similarity - similarity.mean(2, keepdim=True)
        similarity = similarity * (similarity.square().mean(2, keepdim=True) + 1e-5).rsqrt()
        gate = torch.sigmoid(similarity * self.weight.unsqueeze(1) + self.bias.unsqueeze(1))
        return gate.reshape(list(gate.shape[:2]) + list(x.shape[2:])).to(x.dtype)
