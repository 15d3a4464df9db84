"""One level of a cascaded decoder (Chen et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from torch import Tensor, nn

from custom_networks.blocks.resize import resize
from custom_networks.checks import check_odd, check_spatial_dims, per_axis


class UpBlock(nn.Module):
    r"""Resize a map to a finer grid, append the skip of that grid if there is one, and convolve twice.

    .. math:: y = c_2(c_1([\,\uparrow_S x,\ s\,])), \qquad c = \mathrm{act} \circ \mathrm{norm} \circ \mathrm{conv}

    Differs from the paper: the size comes from the skip, not from a factor of two, so that odd maps fit; corners are
    not aligned, as the resize would then move every voxel but the middle one.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the coarser map.
        skip_channels: channels of the skip, 0 for none.
        out_channels: channels of the output.
        kernel_size: odd; one integer, or one per axis.
        act: MONAI activation.
        norm: MONAI norm.

    Shape:
        ``x (B, in_channels, *coarse)`` and ``skip (B, skip_channels, *S)`` to ``(B, out_channels, *S)``.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3 or a kernel size is even.

    Example:
        >>> block = UpBlock(3, 16, 8, 4)
        >>> block(torch.zeros(1, 16, 2, 3, 4), [5, 6, 7], torch.zeros(1, 8, 5, 6, 7)).shape
        torch.Size([1, 4, 5, 6, 7])

    Cost:
        Parameters ``k C_out (C_in + C_skip + C_out)`` with k taps, and those of the norms (4C_out if affine).

    References:
        J. Chen et al., "TransUNet", 2021, arXiv:2102.04306. Reference outputs:
        https://github.com/Beckschen/TransUNet, ``DecoderBlock``.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        *,
        kernel_size: int | Sequence[int] = 3,
        act: str | tuple = "relu",
        norm: str | tuple = ("instance", {"affine": True}),
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        kernel = per_axis(kernel_size, spatial_dims, "kernel_size")
        check_odd(kernel_size, "kernel_size")
        widths = (in_channels + skip_channels, out_channels)
        self.convolutions = nn.Sequential(
            *(
                Convolution(spatial_dims, width, out_channels, kernel_size=kernel, act=act, norm=norm, bias=False)
                for width in widths
            )
        )

    def forward(self, x: Tensor, size: list[int], skip: Tensor | None = None) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: the coarser map ``(B, in_channels, *coarse)``.
            size: spatial size S of the output.
            skip: ``(B, skip_channels, *S)``.
        """
        x = resize(x, size)
        if skip is not None:
            x = torch.cat([x, skip], dim=1)
        return self.convolutions(x)
