"""From tokens back to voxels by transposed convolutions alone (the decoder of Primus)."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from custom_networks.blocks.tokens.convolutional_tokens import draw_convolutions
from custom_networks.checks import check_spatial_dims, check_width, per_level

NORM_EPSILON = 1e-6


def decoder_widths(in_channels: int, out_channels: int, steps: int) -> list[int]:
    r"""Return the channels of the decoder's maps from the tokens on, the last those of the logits.

    .. math:: c_i = \max\bigl(8, 8\,\mathrm{round}(C / 8 r^i)\bigr), \qquad r = (C / 2K)^{1/n}, \qquad c_n = K

    Args:
        in_channels: channels C of the tokens.
        out_channels: number K of classes.
        steps: number n of up-samplings.

    Example:
        >>> decoder_widths(396, 2, 3), decoder_widths(396, 14, 3)
        ([396, 88, 16, 2], [396, 160, 64, 14])
    """
    ratio = (in_channels / (2 * out_channels)) ** (1 / steps)
    inner = [max(8, 8 * round(in_channels / ratio**i / 8)) for i in range(1, steps)]
    return [in_channels, *inner, out_channels]


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of every voxel of a map ``(B, C, *spatial)``.

    Example:
        >>> ChannelNorm(2)(torch.tensor([[[1.0], [3.0]]])).flatten()
        tensor([-1.0000,  1.0000], grad_fn=<ViewBackward0>)
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the map, every voxel normalised by itself.

        Args:
            x: ``(B, C, *spatial)``.
        """
        return nn.functional.layer_norm(
            x.movedim(1, -1), self.normalized_shape, self.weight, self.bias, self.eps
        ).movedim(-1, 1)


class TransposedDecoder(nn.Module):
    r"""Up-sampling step by step; kernels are as large as their strides, so no voxel sees another's token.

    .. math:: y_{i+1} = \mathrm{GELU}\bigl(\mathrm{LN}(W_i\,y_i)\bigr), \qquad \mathrm{logits} = W_{n-1}\,y_{n-1}

    with transposed convolutions :math:`W_i`, a layer norm over the channels of each voxel (1e-6 added to the variance)
    and the exact GELU::

        tokens (C, T) -> up, norm, GELU (c[1]) -> ... -> up -> logits (out_channels, T * strides)

    There is nothing to sharpen a border but the token itself: all detail must go through the transformer.

    Differs from the paper: two or three dimensions; any strides.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the tokens.
        out_channels: number of classes, by which the widths between follow, see :func:`decoder_widths`.
        strides: up-sampling of every step, the coarsest first: one entry per step (an integer, or one per axis).

    Shape:
        ``(B, in_channels, *T)`` to the list of the maps of all steps, the coarsest first, the logits last.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3, ``strides`` is empty or does not fit, or a width is below 1.

    Example:
        >>> decoder = TransposedDecoder(3, 48, 3, strides=(2, 2, (1, 2, 2)))
        >>> [tuple(y.shape) for y in decoder(torch.zeros(1, 48, 2, 3, 2))]
        [(1, 24, 4, 6, 4), (1, 16, 8, 12, 8), (1, 3, 8, 24, 16)]

    Cost:
        Parameters: ``(s c[i-1] + 1) c[i]`` for every step, s the product of its strides, and ``2 c[i]`` for all but
        the last.

    References:
        As :class:`~custom_networks.blocks.tokens.convolutional_tokens.ConvolutionalTokens`; ``PatchDecode`` there.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        strides: Sequence[int | Sequence[int]] = (2, 2, 2),
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        if not strides:
            raise ValueError("strides must name at least 1 step, got none; use for example (2, 2, 2)")
        steps = per_level(strides, len(strides), spatial_dims, "strides")
        check_width(in_channels, "in_channels")
        check_width(out_channels, "out_channels")
        self.widths = decoder_widths(in_channels, out_channels, len(steps))
        conv = Conv[Conv.CONVTRANS, spatial_dims]
        self.decode = nn.ModuleList()
        for i, step in enumerate(steps):
            up = conv(self.widths[i], self.widths[i + 1], step, step)
            is_last = i == len(steps) - 1
            self.decode.append(
                up if is_last else nn.Sequential(up, ChannelNorm(self.widths[i + 1], eps=NORM_EPSILON), nn.GELU())
            )
        draw_convolutions(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps and the logits, see the class.

        Args:
            x: tokens ``(B, in_channels, *T)``.
        """
        maps: list[Tensor] = []
        for step in self.decode:
            x = step(x)
            maps.append(x)
        return maps
