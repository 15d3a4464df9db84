"""The angles by which rotary positions turn pairs of features on a grid of any size (Su et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor


def rotary_frequencies(count: int, base: float) -> Tensor:
    r"""Return :math:`\mathrm{base}^{-f / F}`, the radians that pair f of F turns from one token to the next.

    Args:
        count: number F of pairs per axis.
        base: the larger, the slower turns the last pair.

    Example:
        >>> rotary_frequencies(2, 100.0)
        tensor([1.0000, 0.1000])
    """
    return base ** (-torch.arange(count) / count)


def rotary_angles(frequencies: Tensor, size: list[int]) -> Tensor:
    r"""Return the angles :math:`p_a \omega_f` of the token at position p of a grid, axis a by axis.

    Args:
        frequencies: :math:`\omega`, ``(F,)``.
        size: tokens per axis.

    Shape:
        ``(prod(size), len(size) F)``: tokens in raster order, the F angles of the first axis first.

    Example:
        >>> rotary_angles(torch.tensor([1.0, 0.1]), [1, 3])
        tensor([[0.0000, 0.0000, 0.0000, 0.0000],
                [0.0000, 0.0000, 1.0000, 0.1000],
                [0.0000, 0.0000, 2.0000, 0.2000]])
    """
    angles: list[Tensor] = []
    for axis, length in enumerate(size):
        shape = [1] * len(size) + [-1]
        shape[axis] = length
        position = torch.arange(length, device=frequencies.device, dtype=frequencies.dtype)
        angle = (position[:, None] * frequencies).view(shape)
        angles.append(angle.expand(size + [-1]))  # noqa: RUF005 TorchScript cannot unpack
    return torch.cat(angles, dim=-1).flatten(0, -2)


def turn_neighbours(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    r"""Turn features 2i and 2i + 1 of every token by its angle i; features behind the last pair stay.

    .. math:: (u, w) \mapsto (u \cos\varphi - w \sin\varphi,\; w \cos\varphi + u \sin\varphi)

    Args:
        x: queries or keys ``(B, H, N, d)``.
        cosine: of the angles, ``(N, P)``, 2P at most d.
        sine: of the angles, ``(N, P)``.

    Shape:
        ``(B, H, N, d)`` to the same shape and type.

    Example:
        >>> turn_neighbours(torch.tensor([[[[2.0, 3.0, 5.0]]]]), torch.tensor([[0.0]]), torch.tensor([[1.0]]))
        tensor([[[[-3.,  2.,  5.]]]])
    """
    turned = 2 * cosine.shape[1]
    pairs = x.narrow(-1, 0, turned).unflatten(-1, [cosine.shape[1], 2])
    u, w = pairs.select(-1, 0), pairs.select(-1, 1)
    y = torch.stack([u * cosine - w * sine, w * cosine + u * sine], dim=-1).flatten(-2).to(x.dtype)
    rest = x.shape[-1] - turned
    return y if rest == 0 else torch.cat([y, x.narrow(-1, turned, rest)], dim=-1)
