"""Global filter of GFNet: a learned filter in the frequency domain (Rao et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from custom_networks.checks import check_spatial_dims, per_axis


class GlobalFilter(nn.Module):
    r"""Multiply the spectrum of every channel by a learned complex filter.

    .. math:: y = \mathcal{F}^{-1}(K \odot \mathcal{F} x)

    where :math:`\mathcal{F}` is the discrete Fourier transform over the spatial axes, so y is a circular convolution of
    each channel with a kernel as large as the map. The input is real; the last axis has half of its frequencies::

        x (B, C, D, H, W) -> rfftn -> (B, C, D, H, W//2 + 1) -> * K -> irfftn -> y (B, C, D, H, W)
        table on a grid of g frequencies per axis -> linear interpolation -> K (C, D, H, W//2 + 1)

    Frequency k of n is read at k·g/n of the table, that is, at the same number of cycles per voxel, between the two
    frequencies beside it (periodically; on the last axis no further than the last frequency of the table). On a map
    of the size of the grid K is the table itself, and a filter acts over the same distance in voxels on any map.

    ONNX Runtime cannot run the inverse transform from half a spectrum, so a graph exported to ONNX multiplies by real
    cosine and sine matrices instead: the same transforms, in time O(C·N·(D + H + W)).

    Differs from the paper: on a map of another size the frequencies are matched exactly, zero to zero (resized like an
    image, the table would shift them); the entries start with a standard deviation of 2^-1/2 (0.02 in the authors'
    code), so that the output has the scale of the input.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the input.
        grid_size: frequencies g of the table, one number or one per axis.

    Shape:
        ``(B, C, *spatial)`` to the same shape, any spatial size.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3 or ``grid_size`` is below 1.

    Example:
        >>> GlobalFilter(3, 16)(torch.zeros(1, 16, 4, 6, 5)).shape
        torch.Size([1, 16, 4, 6, 5])

    Cost:
        Parameters ``2C·g_D·g_H·(g_W // 2 + 1)``. Time O(C·N·log N) with N voxels; extra memory, next to two maps of the
        size of the input, one map for the filter, whatever the batch.

    References:
        Y. Rao, W. Zhao, Z. Zhu, J. Lu, J. Zhou, "Global Filter Networks for Image Classification", NeurIPS 2021,
        arXiv:2107.00645; https://github.com/raoyongming/GFNet. Reference outputs:
        https://github.com/xmu-xiaoma666/External-Attention-pytorch.
    """

    def __init__(self, spatial_dims: int, in_channels: int, *, grid_size: int | Sequence[int] = 14) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        self.grid_size = list(per_axis(grid_size, spatial_dims, "grid_size"))
        half = self.grid_size[-1] // 2 + 1
        self.weight = nn.Parameter(torch.empty(in_channels, *self.grid_size[:-1], half, 2))
        nn.init.normal_(self.weight, std=2**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, C, *spatial)``.
        """
        # There is no half-precision transform.
        values = x.float() if x.dtype == torch.float16 or x.dtype == torch.bfloat16 else x
        weight = self._filter(values)
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript skips only what stands in a block of its own
            if torch.compiler.is_exporting() and torch.onnx.is_in_onnx_export():
                return self._filter_by_matrices(values, weight).to(x.dtype)
        axes = list(range(2, x.dim()))
        spectrum = torch.fft.rfftn(values, dim=axes) * torch.view_as_complex(weight)
        return torch.fft.irfftn(spectrum, s=x.shape[2:], dim=axes).to(x.dtype)

    def _filter(self, x: Tensor) -> Tensor:
        """Return the table at the frequencies of ``x``: ``(C, *spatial, 2)``, the last spatial axis halved."""
        weight = self.weight.to(x.dtype)
        last = len(self.grid_size) - 1
        for axis, grid in enumerate(self.grid_size):
            size = x.shape[2 + axis]
            frequency = torch.arange(size if axis < last else size // 2 + 1, device=x.device)
            low = frequency * grid // size
            high = (low + 1) % grid if axis < last else (low + 1).clamp(max=grid // 2)
            fraction = (frequency * grid - low * size).to(x.dtype) / size
            fraction = fraction.reshape([-1] + [1] * (last - axis + 1))
            below = weight.index_select(1 + axis, low)
            weight = below + fraction * (weight.index_select(1 + axis, high) - below)
        return weight

    def _filter_by_matrices(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return what the fast transforms do, by real matrix products."""
        size = x.shape[-1]
        cos, sin = _waves(x, size, size // 2 + 1)
        real, imaginary = torch.matmul(x, cos), -torch.matmul(x, sin)
        for axis in range(2, x.dim() - 1):
            real, imaginary = _transform(real, imaginary, axis, -1)
        a, b = weight.unbind(-1)
        real, imaginary = a * real - b * imaginary, a * imaginary + b * real
        for axis in range(2, x.dim() - 1):
            real, imaginary = _transform(real, imaginary, axis, 1)
            real, imaginary = real / x.shape[axis], imaginary / x.shape[axis]
        # Of each pair of opposite frequencies only one is there; zero and the Nyquist frequency are their own opposite.
        frequency = torch.arange(size // 2 + 1, device=x.device)
        pairs = 1 + ((frequency > 0) & (2 * frequency < size)).to(x.dtype)
        return (torch.matmul(pairs * real, cos.t()) - torch.matmul(pairs * imaginary, sin.t())) / size


def _waves(like: Tensor, size: int, count: int) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of 2·pi·j·k/size, both ``(size, count)``, for voxel j and frequency k."""
    steps = torch.arange(size, device=like.device).unsqueeze(1) * torch.arange(count, device=like.device)
    steps = steps - steps // size * size  # % is not exported
    phase = steps.to(like.dtype) / size * (2 * math.pi)
    return phase.cos(), phase.sin()


def _transform(real: Tensor, imaginary: Tensor, axis: int, sign: int) -> tuple[Tensor, Tensor]:
    """Multiply by exp(sign·2·pi·i·j·k/n) along one axis and sum over it."""
    size = real.shape[axis]
    cos, sin = _waves(real, size, size)
    real, imaginary = real.transpose(axis, -1), imaginary.transpose(axis, -1)
    turned = torch.matmul(real, cos) - sign * torch.matmul(imaginary, sin)
    imaginary = torch.matmul(imaginary, cos) + sign * torch.matmul(real, sin)
    return turned.transpose(axis, -1), imaginary.transpose(axis, -1)
