"""Patches as tokens by one convolution (Dosovitskiy et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from custom_networks.blocks.tokens.convolutional_tokens import draw_convolutions
from custom_networks.blocks.tokens.matrix_convolution import patch_convolution
from custom_networks.checks import check_width


class PatchEmbedding(nn.Module):
    r"""Give every patch one linear map of its voxels.

    .. math:: t_p = W\,\mathrm{vec}(x_p) + b

    as a convolution whose kernel and stride are the size of a patch; no token sees a voxel of another's patch::

        x (B, C_in, *S) -> convolution, kernel = stride = patch -> tokens (B, C, *S / patch)

    Differs from the paper: tokens stay on their grid, in two or three dimensions.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: channels C of the tokens.
        patch: voxels of a token per axis: one integer, or one per axis.

    Shape:
        ``(B, in_channels, *S)`` to ``(B, out_channels, *S / patch)``; every axis divisible by its entry of ``patch``.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3, ``out_channels`` is below 1, or ``patch`` does not have one
            positive size per axis.

    Example:
        >>> import torch
        >>> PatchEmbedding(3, 1, 12, patch=(4, 8, 8))(torch.zeros(1, 1, 8, 24, 16)).shape
        torch.Size([1, 12, 2, 3, 2])

    Cost:
        Parameters ``(prod(patch) in_channels + 1) out_channels``.

    References:
        A. Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, arXiv:2010.11929. Reference outputs:
        https://github.com/MIC-DKFZ/dynamic-network-architectures, ``PatchEmbed`` (Apache-2.0).
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, *, patch: int | Sequence[int] = 8
    ) -> None:
        super().__init__()
        width = check_width(out_channels, "out_channels")
        self.proj = patch_convolution(spatial_dims, in_channels, width, patch)
        draw_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens, see the class.

        Args:
            x: image ``(B, in_channels, *S)``.
        """
        return self.proj(x)
