"""Edge aggregation: the finest maps of an encoder share their edges through gates on the skip connections."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn

from custom_networks.attention.cbam import SpatialGate
from custom_networks.blocks.dual_conv import convolution_block
from custom_networks.blocks.resize import crop
from custom_networks.checks import check_divides_all, check_odd, check_spatial_dims, check_width, per_level


class SpatialMask(nn.Module):
    r"""Weight every voxel by CBAM's gate from its channels' mean and maximum.

    .. math:: y = \sigma\bigl(K * [\,\bar x;\ \hat x\,]\bigr) \odot x

    with the gate of :class:`~custom_networks.attention.cbam.SpatialGate`. It has no width of its own, so one set of
    weights serves maps of any number of channels.

    Differs from the original: None.

    Args:
        spatial_dims: 2 or 3.
        kernel_size: odd; one integer, or one per axis.

    Shape:
        ``(B, C, *S)`` to the same shape, any C and S.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3 or a kernel size is even.

    Example:
        >>> SpatialMask(3)(torch.zeros(1, 8, 5, 4, 6)).shape
        torch.Size([1, 8, 5, 4, 6])

    Cost:
        Parameters ``2 k + 1`` with k taps.

    References:
        As :class:`EdgeAggregation`, and for the gate as :class:`~custom_networks.attention.cbam.Cbam`.
    """

    def __init__(self, spatial_dims: int, *, kernel_size: int | Sequence[int] = 3) -> None:
        super().__init__()
        self.conv = SpatialGate(spatial_dims, kernel_size=kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, C, *S)``.
        """
        return self.conv(x) * x


class SkipGate(nn.Module):
    r"""Weight a skip connection, voxel by voxel, by what it has in common with another map.

    .. math:: y = \sigma\bigl(\mathrm{IN}\,\psi\,\mathrm{lrelu}_{0.01}(\mathrm{IN}\,W u + \mathrm{IN}\,W x)\bigr)
              \odot x

    with one pointwise :math:`W` for both maps, pointwise :math:`\psi` to one channel, and instance norms IN without
    learned scale. The last one sets the mean of what the sigmoid takes to zero, so the mean gate is about one half.

    Differs from the original: no biases before the norms, which remove them.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of both maps.
        inter_channels: channels of W; ``None`` takes C.

    Shape:
        ``x`` and ``other (B, C, *S)`` to ``(B, C, *S)``; S must hold more than one voxel.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3 or ``inter_channels`` is below 1.

    Example:
        >>> SkipGate(3, 8)(torch.zeros(1, 8, 5, 4, 6), torch.zeros(1, 8, 5, 4, 6)).shape
        torch.Size([1, 8, 5, 4, 6])

    Cost:
        Parameters ``I (C + 1)`` with I = ``inter_channels``.

    References:
        As :class:`EdgeAggregation`.
    """

    def __init__(self, spatial_dims: int, in_channels: int, *, inter_channels: int | None = None) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        conv = Conv[Conv.CONV, spatial_dims]
        width = in_channels if inter_channels is None else check_width(inter_channels, "inter_channels")
        self.W = nn.Sequential(conv(in_channels, width, 1, bias=False), get_norm_layer("instance", spatial_dims, width))
        self.psi = nn.Sequential(conv(width, 1, 1, bias=False), get_norm_layer("instance", spatial_dims, 1))

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: the skip connection ``(B, C, *S)``.
            other: the other map ``(B, C, *S)``.
        """
        return torch.sigmoid(self.psi(F.leaky_relu(self.W(other) + self.W(x), 0.01))) * x


class EdgeAggregation(nn.Module):
    r"""Merge the maps of several encoder levels on the coarsest of their grids and gate each map with the result.

    With maps :math:`r_0 \dots r_{L-1}`, finest first, M one :class:`SpatialMask` for all levels, :math:`\downarrow` a
    convolution block with the level's strides that keeps the channels and :math:`\uparrow_l` a transposed convolution
    by the cumulative strides from level l:

    .. math:: f_0 = M r_0, \quad f_l = [\,\downarrow f_{l-1},\ M r_l\,], \quad
              u_l = \uparrow_l f_{L-1}, \quad u_{L-1} = \mathrm{block}(f_{L-1}), \quad y_l = \mathrm{gate}_l(r_l, u_l)

    ::

        r0 -> M -> down -+                        +-> up -> u0 -> gate(r0) -> y0
        r1 -> M ---------+-> down -+              +-> up -> u1 -> gate(r1) -> y1
        r2 -> M -------------------+-> f2 --------+-> block -> u2 -> gate(r2) -> y2

    with the gate of :class:`SkipGate`. The gated maps are meant as skip connections; the encoder goes on with the maps
    as they were.

    Differs from the original: any number of levels, channels, strides per axis and odd sizes (a map that the transposed
    convolution makes too large loses its last voxels); no biases before norms.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of each map, finest first, at least two.
        strides: strides between neighbouring maps, one entry for each map but the finest (an integer, or one per axis),
            or one integer.
        kernel_size: kernels of the blocks, odd, one entry for each map but the finest: a block takes that of the grid
            it gives; or one integer.
        act: MONAI activation of the blocks.
        norm: MONAI norm of the blocks.
        dropout: probability of dropping a value in the blocks.
        dual_groups: groups of dual convolutions in the blocks, a divisor of every entry of ``in_channels``, see
            :func:`~custom_networks.blocks.dual_conv.convolution_block`; ``None`` for dense ones.

    Shape:
        a list of ``(B, in_channels[l], *S_l)`` to a list of the same shapes, :math:`S_l = S_{l-1} / \mathrm{strides}`,
        rounded up.

    Raises:
        ValueError: if there are fewer than two maps, the lengths of the arguments do not fit each other,
            ``dual_groups`` does not divide every entry of ``in_channels``, or as for the blocks.

    Example:
        >>> maps = [torch.zeros(1, 4, 9, 8, 7), torch.zeros(1, 8, 5, 4, 4)]
        >>> [tuple(y.shape) for y in EdgeAggregation(3, (4, 8))(maps)]
        [(1, 4, 9, 8, 7), (1, 8, 5, 4, 4)]

    Cost:
        Parameters with k taps, channels c[l], sums C[l] = c[0] + ... + c[l], s[l] the product of the cumulative strides
        from l and an affine norm: mask ``2k + 1``; down ``k C[l]^2 + 2C[l]`` for l = 0 to L-2; up ``s[l] C[L-1] c[l]``
        for l = 0 to L-2; block ``k C[L-1] c[L-1] + 2c[L-1]``; gates ``c[l] (c[l] + 1)``.

    References:
        The block "EAB" of the public DHTNet code for brain tumours, with that code's gate and spatial attention.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: Sequence[int],
        *,
        strides: int | Sequence[int | Sequence[int]] = 2,
        kernel_size: int | Sequence[int | Sequence[int]] = 3,
        act: str | tuple = ("leakyrelu", {"negative_slope": 0.01}),
        norm: str | tuple = ("instance", {"affine": True}),
        dropout: float = 0.0,
        dual_groups: int | None = None,
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        levels = len(in_channels)
        if levels < 2:
            raise ValueError(f"in_channels must name at least 2 maps, got {tuple(in_channels)}; add a map")
        if dual_groups is not None:
            check_divides_all(in_channels, dual_groups, "dual_groups", "in_channels")
        steps = per_level(strides, levels - 1, spatial_dims, "strides", "in_channels")
        kernels = per_level(kernel_size, levels - 1, spatial_dims, "kernel_size", "in_channels")
        for kernel in kernels:
            check_odd(kernel, "kernel_size")

        def block(channels: int, out: int, kernel: Sequence[int], step: Sequence[int] | int = 1) -> nn.Module:
            return convolution_block(
                spatial_dims,
                channels,
                out,
                kernel_size=kernel,
                strides=step,
                act=act,
                norm=norm,
                dropout=dropout,
                dual_groups=dual_groups,
            )

        self.mask = SpatialMask(spatial_dims)
        sums = [sum(in_channels[: level + 1]) for level in range(levels)]
        self.down = nn.ModuleList(
            block(width, width, kernel, step) for width, kernel, step in zip(sums[:-1], kernels, steps, strict=True)
        )
        self.up = nn.ModuleList()
        factors = (1,) * spatial_dims
        ups: list[nn.Module] = [block(sums[-1], in_channels[-1], kernels[-1])]
        for width, step in zip(in_channels[-2::-1], steps[::-1], strict=True):
            factors = tuple(a * b for a, b in zip(factors, step, strict=True))
            ups.append(Conv[Conv.CONVTRANS, spatial_dims](sums[-1], width, factors, factors, bias=False))
        self.up.extend(ups[::-1])
        self.gates = nn.ModuleList(SkipGate(spatial_dims, width) for width in in_channels)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Return the gated maps, see the class.

        Args:
            maps: the encoder's maps, finest first.
        """
        merged = self.mask(maps[0])
        for i, down in enumerate(self.down):
            merged = torch.cat([down(merged), self.mask(maps[i + 1])], dim=1)
        ups: list[Tensor] = []
        for i, up in enumerate(self.up):
            ups.append(crop(up(merged), list(maps[i].shape[2:])))
        gated: list[Tensor] = []
        for i, gate in enumerate(self.gates):
            gated.append(gate(maps[i], ups[i]))
        return gated
