"""Selective kernels: a softmax per channel over branches of different reach (Li et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from torch import Tensor, nn

from custom_networks.checks import check_divides, check_reduction, check_spatial_dims


class SelectiveKernel(nn.Module):
    r"""Mix convolutions of different reach, channel by channel, with weights computed from their pooled sum.

    .. math:: y = \sum_i a_i \odot u_i, \qquad u_i = \mathrm{ReLU}(\mathrm{norm}(K_i * x)), \qquad
              a_{ic} = \mathrm{softmax}_i (A_i z)_c, \qquad
              z = \mathrm{ReLU}\bigl(\mathrm{LN}(W\,\overline{\textstyle\sum_i u_i})\bigr)

    where the bar is the mean over all voxels::

        x (B, C, *S) -+- conv 1, norm, ReLU -> u_1 (B, C, *S) -+-> sum, mean -> W, LN, ReLU (B, d) -+
                      +- ...                                   |                                    A, softmax (B, M, C)
                      +- conv M, norm, ReLU -> u_M (B, C, *S) -+-> sum weighted by <----------------+
                                                                   y (B, C, *S)

    Differs from the paper: every branch has a kernel of three voxels per axis and reaches further by its dilation (the
    paper does so for the second of its two branches; a dense kernel of seven voxels per axis has 343 C² weights in
    3D). Group norm with one group by default (batch norm in the paper): it needs no other sample, and unlike instance
    norm it keeps the differences between channel means on which the selection depends. Layer norm in z (batch norm in
    the paper), because batch statistics of pooled values need a large batch. Dense convolutions by default (32 groups
    in the paper).

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the input.
        dilations: dilation of each of the M branches, at least 1; (1, 2, 3) reach 3, 5 and 7 voxels per axis.
        reduction: d = max(min_channels, C // reduction).
        min_channels: least width d of z, at least 2.
        groups: groups of the convolutions, a divisor of C.
        norm: MONAI norm of the branches, or ``None``; instance norm needs more than one voxel.

    Shape:
        ``(B, C, *spatial)`` to the same shape, any spatial size.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3, there are fewer than two dilations or one is below 1,
            ``reduction`` is below 1, ``min_channels`` is below 2, or ``groups`` does not divide C.

    Example:
        >>> SelectiveKernel(3, 16)(torch.zeros(1, 16, 4, 6, 5)).shape
        torch.Size([1, 16, 4, 6, 5])

    Cost:
        Parameters ``M (3^spatial_dims C² / groups + 2C)`` for the branches (with an affine norm; without one C biases
        in place of 2C) and ``(M + 1) C d + 2d`` for the selection. Time 3^spatial_dims M N C² / groups with N voxels;
        extra memory M maps of the input's size.

    References:
        X. Li, W. Wang, X. Hu, J. Yang, "Selective Kernel Networks", CVPR 2019, arXiv:1903.06586;
        https://github.com/implus/SKNet. Reference outputs:
        https://github.com/xmu-xiaoma666/External-Attention-pytorch.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        dilations: Sequence[int] = (1, 2),
        reduction: int = 16,
        min_channels: int = 32,
        groups: int = 1,
        norm: str | tuple | None = ("group", {"num_groups": 1}),
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        check_divides(in_channels, groups, "groups")
        if len(dilations) < 2 or min(dilations) < 1:
            raise ValueError(
                f"dilations must be at least two positive integers, got {dilations}; use for example (1, 2)"
            )
        if min_channels < 2:
            raise ValueError(
                f"min_channels must be at least 2, got {min_channels}; layer norm of one channel is constant"
            )
        width = max(min_channels, check_reduction(in_channels, reduction))
        self.branches = nn.ModuleList(
            Convolution(
                spatial_dims,
                in_channels,
                in_channels,
                kernel_size=3,
                dilation=dilation,
                groups=groups,
                bias=norm is None,
                norm=norm,
                act="RELU",
            )
            for dilation in dilations
        )
        self.fuse = nn.Sequential(nn.Linear(in_channels, width, bias=False), nn.LayerNorm(width), nn.ReLU())
        self.select = nn.Linear(width, len(dilations) * in_channels, bias=False)

    def _maps(self, x: Tensor) -> list[Tensor]:
        """Return the outputs of the branches."""
        maps: list[Tensor] = []
        for branch in self.branches:
            maps.append(branch(x))
        return maps

    def _weights(self, maps: list[Tensor]) -> Tensor:
        """Return the softmax ``(B, M, C)`` over the branches."""
        pooled = maps[0].flatten(2).mean(2)  # the mean of the sum is the sum of the means
        for u in maps[1:]:
            pooled = pooled + u.flatten(2).mean(2)
        logits = self.select(self.fuse(pooled))
        return torch.softmax(logits.unflatten(1, [len(maps), maps[0].shape[1]]), dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, C, *spatial)``.
        """
        maps = self._maps(x)
        weights = self._weights(maps)
        weights = weights.reshape(list(weights.shape) + [1] * (x.dim() - 2))
        y = maps[0] * weights[:, 0]
        for i in range(1, len(maps)):
            y = y + maps[i] * weights[:, i]
        return y

    def attention_map(self, x: Tensor) -> Tensor:
        """Return the weights ``(B, M, C)`` of the branches, which sum to one over M.

        Args:
            x: ``(B, C, *spatial)``.
        """
        return self._weights(self._maps(x))
