"""Argument and size checks that speak in whole sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import gcd
from numbers import Integral

from torch import Tensor


def per_axis(value: int | Sequence[int], spatial_dims: int, name: str) -> tuple[int, ...]:
    """Return ``value`` as one positive integer per spatial axis.

    Args:
        value: one integer for every axis, or one integer per axis.
        spatial_dims: number of spatial axes.
        name: argument name used in the error.

    Raises:
        ValueError: if the number of values differs from ``spatial_dims``, or a value is no integer or below 1.

    Example:
        >>> per_axis(2, 3, "strides")
        (2, 2, 2)
    """
    values = tuple(value) if isinstance(value, Iterable) else (value,) * spatial_dims
    if len(values) != spatial_dims or not all(isinstance(v, Integral) and v >= 1 for v in values):
        raise ValueError(
            f"{name} must be a positive integer or {spatial_dims} positive integers, got {value}; "
            f"use for example {(2,) * spatial_dims}"
        )
    return tuple(int(v) for v in values)


def per_level(
    value: int | Sequence, levels: int, spatial_dims: int, name: str, widths: str = "features"
) -> list[tuple[int, ...]]:
    """Return one tuple of per-axis integers for each level.

    Args:
        value: one integer for all levels, or one entry per level: an integer, or one integer per axis.
        levels: number of entries.
        spatial_dims: number of spatial axes.
        name: argument name used in the error.
        widths: name of the argument that says how many levels there are, used in the error.

    Raises:
        ValueError: if the number of entries or of axes is another, or a value is below 1.

    Example:
        >>> per_level([(1, 2, 2), 2], 2, 3, "strides")
        [(1, 2, 2), (2, 2, 2)]
    """
    entries = list(value) if isinstance(value, Sequence) else [value] * levels
    if len(entries) != levels:
        raise ValueError(
            f"{name} must have {levels} entries for these {widths}, got {len(entries)}: {value}; give that many, or "
            "one integer for all"
        )
    return [per_axis(entry, spatial_dims, name) for entry in entries]


def check_odd(value: int | Sequence[int], name: str) -> None:
    """Refuse a kernel size that has no centre.

    Args:
        value: one size, or one per axis.
        name: argument name used in the error.

    Raises:
        ValueError: if a size is even or below 1.

    Example:
        >>> check_odd((1, 3, 5), "kernel_size")
    """
    values = tuple(value) if isinstance(value, Iterable) else (value,)
    if any(not isinstance(v, Integral) or v < 1 or v % 2 == 0 for v in values):
        odd = tuple(max(1, int(v)) | 1 for v in values)
        example = odd if isinstance(value, Iterable) else odd[0]
        raise ValueError(f"{name} must be odd and positive, got {value}; use for example {example}")


def check_attention_parts(attention: Sequence[str], parts: Sequence[str]) -> None:
    """Refuse names that are no attention part of a network.

    Args:
        attention: the parts asked for.
        parts: the parts that the network has.

    Raises:
        ValueError: if a name is unknown, or a name stands alone instead of in a list.

    Example:
        >>> check_attention_parts(["gate"], ("gate", "non_local"))
    """
    if isinstance(attention, str):
        raise ValueError(  # noqa: TRY004 - the value is wrong, not its type
            f"attention must be a list of names, got {attention!r}; use [{attention!r}]"
        )
    unknown = sorted(set(attention) - set(parts))
    if unknown:
        raise ValueError(f"attention must hold only {tuple(parts)}, got {unknown}; leave out the rest")


def check_spatial_dims(spatial_dims: int) -> None:
    """Refuse anything but 2D and 3D.

    Args:
        spatial_dims: number of spatial axes.

    Raises:
        ValueError: if ``spatial_dims`` is neither 2 nor 3.
    """
    if spatial_dims not in (2, 3):
        raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}; reshape the data to 2D or 3D")


def check_reduction(channels: int, reduction: int, name: str = "reduction") -> int:
    """Return the reduced width ``max(1, channels // reduction)``.

    Args:
        channels: number of channels before the reduction.
        reduction: factor by which the channels are divided, at least 1.
        name: argument name used in the error.

    Raises:
        ValueError: if ``reduction`` is below 1.

    Example:
        >>> check_reduction(16, 8)
        2
    """
    if reduction < 1:
        raise ValueError(f"{name} must be at least 1, got {reduction}; use 1 to keep all {channels} channels")
    return max(1, channels // reduction)


def check_width(channels: int, name: str) -> int:
    """Return a number of channels as it is.

    Args:
        channels: the number.
        name: argument name used in the error.

    Raises:
        ValueError: if it is below 1; a gate without channels is a constant.

    Example:
        >>> check_width(8, "inter_channels")
        8
    """
    if channels < 1:
        raise ValueError(f"{name} must be at least 1, got {channels}; use for example 8")
    return channels


def check_divides(channels: int, parts: int, name: str, whole: str = "in_channels") -> int:
    """Return ``channels // parts``, the width of each of ``parts`` equal parts.

    Args:
        channels: number of channels to divide.
        parts: number of parts, a divisor of ``channels``.
        name: argument name of ``parts`` used in the error.
        whole: what ``channels`` is, used in the error.

    Raises:
        ValueError: if ``parts`` does not divide ``channels``.

    Example:
        >>> check_divides(16, 4, "num_heads")
        4
    """
    if parts < 1 or channels % parts:
        raise ValueError(f"{name} must divide {whole} {channels}, got {parts}; use one of {_divisors(channels)}")
    return channels // parts


def check_divides_all(channels: Sequence[int], parts: int, name: str, whole: str) -> None:
    """Refuse a number of parts into which not all of several numbers of channels can be divided.

    Args:
        channels: numbers of channels to divide.
        parts: number of parts, a divisor of each of them.
        name: argument name of ``parts`` used in the error.
        whole: argument name of ``channels`` used in the error.

    Raises:
        ValueError: if ``parts`` does not divide every number of channels.

    Example:
        >>> check_divides_all((8, 12), 4, "groups", "features")
    """
    common = gcd(*channels)
    if parts < 1 or common % parts:
        raise ValueError(
            f"{name} must divide every entry of {whole} {tuple(channels)}, got {parts}; use one of {_divisors(common)}"
        )


def _divisors(number: int) -> str:
    return ", ".join(str(n) for n in range(1, number + 1) if number % n == 0)


def check_heads(in_channels: int, num_heads: int, head_channels: int | None) -> list[int]:
    """Return the number of heads and the width of each.

    Args:
        in_channels: number of input channels.
        num_heads: number of heads, a divisor of ``in_channels`` unless ``head_channels`` is given.
        head_channels: width of a head; ``None`` takes ``in_channels // num_heads``.

    Raises:
        ValueError: if ``num_heads`` does not divide ``in_channels`` where it must, or either is below 1.

    Example:
        >>> check_heads(16, 4, None)
        [4, 4]
    """
    if head_channels is None:
        return [num_heads, check_divides(in_channels, num_heads, "num_heads")]
    if num_heads < 1 or head_channels < 1:
        raise ValueError(
            f"num_heads and head_channels must be at least 1, got {num_heads} and {head_channels}; "
            "use for example 4 and None"
        )
    return [num_heads, head_channels]


def check_input(x: Tensor, in_channels: int, size_divisor: tuple[int, ...]) -> None:
    """Refuse an input that a network cannot take, naming the size to pad to.

    Args:
        x: network input ``(B, C, *spatial)``.
        in_channels: number of channels that the network expects.
        size_divisor: per spatial axis, the integer that must divide the size.

    Raises:
        ValueError: if the number of axes, the number of channels or the spatial size does not fit, or if the coarsest
            grid would have a single voxel, which no instance norm can take.

    Example:
        >>> import torch
        >>> check_input(torch.zeros(1, 1, 16, 8, 24), 1, (8, 8, 8))
    """
    if x.dim() != len(size_divisor) + 2:
        raise ValueError(
            f"input must have {len(size_divisor) + 2} axes (batch, channel, {len(size_divisor)} spatial), "
            f"got shape {tuple(x.shape)}; add or remove axes"
        )
    if x.shape[1] != in_channels:
        raise ValueError(
            f"input must have {in_channels} channels, got {x.shape[1]} (shape {tuple(x.shape)}); "
            f"set in_channels={x.shape[1]} or select the channels"
        )
    size = tuple(int(s) for s in x.shape[2:])
    if any(s % d for s, d in zip(size, size_divisor, strict=True)):
        padded = tuple(-(-s // d) * d for s, d in zip(size, size_divisor, strict=True))
        raise ValueError(f"spatial shape {size} must be divisible by {size_divisor}; pad to {padded}")
    if size == tuple(size_divisor):
        padded = (2 * size[0], *size[1:])
        raise ValueError(f"spatial shape {size} leaves one voxel on the coarsest grid; pad to {padded}")
