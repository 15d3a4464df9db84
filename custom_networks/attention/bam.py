"""BAM: the sum of a channel branch and a dilated spatial branch as one gate (Park et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv
from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn

from custom_networks.checks import check_reduction, check_spatial_dims, per_axis


class Bam(nn.Module):
    r"""Add to the input its product with a gate over channels and voxels.

    .. math:: y = x + \sigma(c + s) \odot x, \qquad
              c = \mathrm{LN}\bigl(W_1\,\mathrm{ReLU}(W_0\,\bar x + b_0) + b_1\bigr), \qquad
              s = \mathrm{norm}\bigl(f_3\,r\,f_2\,r\,f_1\,r\,f_0\,x\bigr)

    with :math:`\bar x` the mean over all voxels, :math:`r` a ReLU, :math:`f_0` and :math:`f_3` pointwise and
    :math:`f_1` and :math:`f_2` dilated convolutions of three voxels per axis::

        x (B, C, *S) -+- mean (B, C) -> W0, ReLU (B, C/r) -> W1, LN (B, C) ----------------+- sum, sigmoid (B, C, *S)
                      +- f0 (B, C/r, *S) -> f1 -> f2 (B, C/r, *S) -> f3, norm (B, 1, *S) --+

    Differs from the paper: layer norm in the channel branch (batch norm in the paper), because batch statistics of
    pooled values need a large batch; instance norm in the spatial branch by default (batch norm in the paper).
    ``reduction`` is 4 by default (16 in the paper), because the first levels of a 3D network are narrow. The ReLUs
    come from the released code, the formula leaves them out; that code also normalises after each hidden layer and not
    at the end, and multiplies the branches where the paper adds them.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the input.
        reduction: the hidden width of both branches is max(1, C // reduction).
        dilation: dilation of the two convolutions, one number or one per axis.
        norm: MONAI norm of the spatial branch, or ``None``.

    Shape:
        ``(B, C, *spatial)`` to the same shape, any spatial size (with instance norm at least two voxels).

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3, or ``reduction`` or a dilation is below 1.

    Example:
        >>> Bam(3, 16)(torch.zeros(1, 16, 4, 6, 5)).shape
        torch.Size([1, 16, 4, 6, 5])

    Cost:
        With h the hidden width, parameters ``3C(h + 1) + h`` for the pointwise layers and the layer norm and
        ``2h(3^spatial_dims h + 1) + 2h`` for the rest, plus 2 for an affine norm (without a norm 1). Time
        N(Ch + 2·3^spatial_dims h²) with N voxels; extra memory one map of the input's size and three of h channels.

    References:
        J. Park, S. Woo, J.-Y. Lee, I. S. Kweon, "BAM: Bottleneck Attention Module", BMVC 2018, arXiv:1807.06514;
        https://github.com/Jongchan/attention-module. Reference outputs:
        https://github.com/xmu-xiaoma666/External-Attention-pytorch. That version does not pad by the dilation.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        reduction: int = 4,
        dilation: int | Sequence[int] = 4,
        norm: str | tuple | None = ("instance", {"affine": True}),
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        conv = Conv[Conv.CONV, spatial_dims]
        hidden = check_reduction(in_channels, reduction)
        steps = per_axis(dilation, spatial_dims, "dilation")
        self.channel = nn.Sequential(
            nn.Linear(in_channels, hidden), nn.ReLU(), nn.Linear(hidden, in_channels), nn.LayerNorm(in_channels)
        )
        self.spatial = nn.Sequential(conv(in_channels, hidden, 1), nn.ReLU())
        for _ in range(2):
            self.spatial.append(conv(hidden, hidden, 3, padding=steps, dilation=steps))
            self.spatial.append(nn.ReLU())
        self.spatial.append(conv(hidden, 1, 1, bias=norm is None))
        if norm is not None:
            self.spatial.append(get_norm_layer(norm, spatial_dims, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, C, *spatial)``.
        """
        return x + x * self.attention_map(x)

    def attention_map(self, x: Tensor) -> Tensor:
        """Return the gate ``(B, C, *spatial)``, in (0, 1).

        Args:
            x: ``(B, C, *spatial)``.
        """
        channel = self.channel(x.flatten(2).mean(2))
        return torch.sigmoid(channel.reshape(list(channel.shape) + [1] * (x.dim() - 2)) + self.spatial(x))
