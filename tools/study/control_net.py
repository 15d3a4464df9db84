"""The plain U-Net of the positive control, small enough that what lies far away is out of its sight."""

from __future__ import annotations

from typing import Literal

import torch
from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn

Padding = Literal["zeros", "circular"]
FEATURES = (8, 16, 32)
TRUNK = ("fine", "middle", "coarsest")
POINT = TRUNK[-1]
"""The levels on the way down, and where a module is plugged in."""


class PlainUnet(nn.Module):
    """Three levels with strides of two: one or two convolutions each on the way down, one on the way up.

    Args:
        in_channels: channels of the image.
        norm: MONAI norm behind every convolution; batch norm has fixed statistics in evaluation.
        padding_mode: what the convolutions see beyond the border: zeros, or the other side.

    Shape:
        ``(B, in_channels, *S)`` to one logit per voxel, ``(B, 1, *S)``; every axis of S divisible by 4.

    Example:
        >>> PlainUnet()(torch.zeros(1, 1, 8, 8, 64)).shape
        torch.Size([1, 1, 8, 8, 64])
    """

    def __init__(self, in_channels: int = 1, norm: str = "batch", padding_mode: Padding = "zeros") -> None:
        super().__init__()

        def convolve(channels: int, width: int, kernel_size: int = 3) -> nn.Sequential:
            convolution = nn.Conv3d(
                channels, width, kernel_size, padding=kernel_size // 2, bias=False, padding_mode=padding_mode
            )
            return nn.Sequential(convolution, get_norm_layer((norm, {"affine": True}), 3, width), nn.ReLU())

        fine, middle, coarse = FEATURES
        self.fine = convolve(in_channels, fine)
        self.middle = nn.Sequential(convolve(fine, middle), convolve(middle, middle))
        self.coarsest = nn.Sequential(convolve(middle, coarse), convolve(coarse, coarse))
        self.project_coarsest = nn.Conv3d(coarse, middle, 1)
        self.up_middle = convolve(2 * middle, middle)
        self.project_middle = nn.Conv3d(middle, fine, 1)
        self.up_fine = convolve(2 * fine, fine, kernel_size=1)  # of three, it would take a quarter of a step
        self.pool = nn.AvgPool3d(2)
        self.enlarge = nn.Upsample(scale_factor=2)
        self.head = nn.Conv3d(fine, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return one logit per voxel.

        Args:
            x: ``(B, in_channels, *S)``.
        """
        fine = self.fine(x)
        middle = self.middle(self.pool(fine))
        coarse = self.coarsest(self.pool(middle))
        middle = self.up_middle(torch.cat([self.enlarge(self.project_coarsest(coarse)), middle], 1))
        return self.head(self.up_fine(torch.cat([self.enlarge(self.project_middle(middle)), fine], 1)))


class WithCoordinates(nn.Module):
    """Append the place of each voxel to the image, one channel per axis from -1 to 1.

    Args:
        network: takes three channels more than the image has.

    Shape:
        as the network, with ``(B, C, *S)`` for its ``(B, C + 3, *S)``.

    Example:
        >>> WithCoordinates(PlainUnet(4))(torch.zeros(1, 1, 8, 8, 64)).shape
        torch.Size([1, 1, 8, 8, 64])
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return what the network makes of image and places.

        Args:
            x: ``(B, C, *S)``.
        """
        axes = [torch.linspace(-1, 1, n, dtype=x.dtype, device=x.device) for n in x.shape[2:]]
        places = torch.stack(torch.meshgrid(axes, indexing="ij")).expand(len(x), -1, *x.shape[2:])
        return self.network(torch.cat([x, places], 1))
