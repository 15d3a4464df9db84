"""Coordinate attention: one gate per spatial axis (Hou et al. 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn

from custom_networks.checks import check_reduction, check_spatial_dims


class CoordinateAttention(nn.Module):
    r"""Scale the input by a product of gates, each computed from the mean profile along one spatial axis.

    .. math:: y = x \odot \prod_a \sigma(F_a f_a), \qquad
              [f_D, f_H, f_W] = \mathrm{hswish}\bigl(\mathrm{norm}(F_1 [z_D, z_H, z_W])\bigr)

    where :math:`z_a` is the mean of x over all spatial axes but a. The profiles are joined end to end and share the
    layer :math:`F_1` with its m channels and the norm::

        x (B, C, D, H, W) -> z (B, C, D + H + W) -> F_1, norm, hswish -> f (B, m, D + H + W) -+- F_D -> (B, C, D, 1, 1)
                                                                                              +- F_H -> (B, C, 1, H, 1)
                                                                                              +- F_W -> (B, C, 1, 1, W)

    Differs from the paper: a third axis in 3D; instance norm by default (batch norm in the paper's code), which takes
    its statistics over the D + H + W entries of a sample.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the input.
        reduction: m = max(8, C // reduction).
        norm: MONAI norm after the shared layer, or ``None`` (then that layer has a bias).

    Shape:
        ``(B, C, *spatial)`` to the same shape, any spatial size.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3 or ``reduction`` is below 1.

    Example:
        >>> CoordinateAttention(3, 16)(torch.zeros(1, 16, 4, 6, 5)).shape
        torch.Size([1, 16, 4, 6, 5])

    Cost:
        Parameters ``Cm + 2m + n(m+1)C`` with n spatial axes and an affine norm. Time O(NC) with N voxels; extra memory
        is one map of the size of the input.

    References:
        Q. Hou, D. Zhou, J. Feng, "Coordinate Attention for Efficient Mobile Network Design", CVPR 2021,
        arXiv:2103.02907. Reference outputs:
        https://github.com/xmu-xiaoma666/External-Attention-pytorch.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        reduction: int = 32,
        norm: str | tuple | None = ("instance", {"affine": True}),
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        features = max(8, check_reduction(in_channels, reduction))
        conv = Conv[Conv.CONV, 1]
        axes = range(2, spatial_dims + 2)
        self.others = [[other for other in axes if other != axis] for axis in axes]
        self.joint = nn.Sequential(conv(in_channels, features, 1, bias=norm is None))
        if norm is not None:
            self.joint.append(get_norm_layer(norm, 1, features))
        self.gates = nn.ModuleList(conv(features, in_channels, 1) for _ in axes)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, C, *spatial)``.
        """
        return x * self.attention_map(x)

    def attention_map(self, x: Tensor) -> Tensor:
        """Return the product of the gates ``(B, C, *spatial)``, each value between 0 and 1.

        Args:
            x: ``(B, C, *spatial)``.
        """
        profiles = [x.mean(others) for others in self.others]
        joint = F.hardswish(self.joint(torch.cat(profiles, dim=2)))
        features = joint.split([profile.shape[2] for profile in profiles], dim=2)
        product = torch.ones(1, dtype=joint.dtype, device=x.device)
        for i, gate in enumerate(self.gates):
            values = torch.sigmoid(gate(features[i]))
            for axis in self.others[i]:
                values = values.unsqueeze(axis)
            product = product * values
        return product
