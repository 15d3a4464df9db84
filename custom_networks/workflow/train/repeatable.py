"""Operations that give the same digits in every run on a GPU, in place of those of torch that do not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


def interpolate(x: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", **more: Any) -> Tensor:
    """Return ``F.interpolate``, a trilinear one as the product with a matrix along each axis.

    Args:
        x: ``(B, C, D, H, W)``.
        size: see ``F.interpolate``.
        scale_factor: see there.
        mode: see there.
        **more: see there.

    Example:
        >>> x = torch.rand(1, 2, 3, 4, 5)
        >>> interpolate(x, (6, 7, 3), mode="trilinear").allclose(F.interpolate(x, (6, 7, 3), mode="trilinear"))
        True
    """
    if mode != "trilinear":
        return F.interpolate(x, size, scale_factor, mode, **more)
    for axis in range(2, 5):
        one = [value[axis - 2] if isinstance(value, list | tuple) else value for value in (size, scale_factor)]
        weights = F.interpolate(torch.eye(x.shape[axis], device=x.device)[None], one[0], one[1], "linear", **more)[0]
        x = (x.movedim(axis, -1) @ weights.to(x.dtype)).movedim(-1, axis)
    return x


def cross_entropy(x: Tensor, target: Tensor, weight: Tensor | None = None, **more: Any) -> Tensor:
    """Return ``F.cross_entropy``, that of volumes and classes without weights as that of a list of voxels.

    Args:
        x: logits ``(B, C, *S)``.
        target: classes ``(B, *S)``.
        weight: see ``F.cross_entropy``.
        **more: see there.

    Example:
        >>> x, target = torch.rand(2, 3, 4, 4, 4), torch.randint(3, (2, 4, 4, 4))
        >>> cross_entropy(x, target).allclose(F.cross_entropy(x, target))
        True
    """
    if weight is not None or x.dim() < 3 or target.dim() != x.dim() - 1:
        return F.cross_entropy(x, target, weight, **more)
    reduction, ignored = more.get("reduction", "mean"), more.get("ignore_index", -100)
    each = F.cross_entropy(x.movedim(1, -1).flatten(0, -2), target.flatten(), **{**more, "reduction": "none"})
    if reduction == "none":
        return each.reshape(target.shape)
    return each.sum() / (target != ignored).sum() if reduction == "mean" else each.sum()


def _windows(x: Tensor, size: Any, stride: Any) -> Tensor:
    """Return the windows of a pooling without padding: ``(B, C, *S', window)``."""
    sizes, strides = ((v,) * 3 if isinstance(v, int) else tuple(v) for v in (size, stride or size))
    for axis, (one, step) in enumerate(zip(sizes, strides, strict=True), start=2):
        x = x.unfold(axis, one, step)
    return x.flatten(-3)


def max_pool3d(x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, *rest: Any, **more: Any) -> Tensor:
    """Return ``F.max_pool3d`` as the largest of each window.

    Args:
        x: ``(B, C, D, H, W)``.
        kernel_size: see ``F.max_pool3d``.
        stride: see there.
        padding: see there.
        *rest: see there; with dilation, windows that reach over the border or indices torch's operation is taken.
        **more: see there.

    Example:
        >>> x = torch.rand(1, 2, 5, 6, 7)
        >>> max_pool3d(x, 3, 2, 1).equal(F.max_pool3d(x, 3, 2, 1))
        True
    """
    dilation = more.get("dilation", 1)
    if rest or more.get("ceil_mode") or more.get("return_indices") or dilation not in (1, (1, 1, 1), [1, 1, 1]):
        return F.max_pool3d(x, kernel_size, stride, padding, *rest, **more)
    ends = (padding,) * 3 if isinstance(padding, int) else tuple(padding)
    padded = F.pad(x, [end for one in reversed(ends) for end in (one, one)], value=-math.inf) if any(ends) else x
    return _windows(padded, kernel_size, stride).max(-1).values


def avg_pool3d(x: Tensor, kernel_size: Any, stride: Any = None, *rest: Any, **more: Any) -> Tensor:
    """Return ``F.avg_pool3d`` as the mean of each window.

    Args:
        x: ``(B, C, D, H, W)``.
        kernel_size: see ``F.avg_pool3d``.
        stride: see there.
        *rest: see there; with padding, or windows that reach over the border, torch's operation is taken.
        **more: see there.

    Example:
        >>> x = torch.rand(1, 2, 4, 6, 8)
        >>> avg_pool3d(x, 2, ceil_mode=True).allclose(F.avg_pool3d(x, 2))
        True
    """
    sizes = (kernel_size,) * 3 if isinstance(kernel_size, int) else tuple(kernel_size)
    whole = stride in (None, kernel_size) and not any(n % one for n, one in zip(x.shape[2:], sizes, strict=True))
    # as nn.AvgPool3d gives them: those of rounding and counting at the border change nothing for whole windows
    given = {**dict(zip(("padding", "ceil_mode", "count_include_pad", "divisor_override"), rest, strict=False)), **more}
    if given.get("padding", 0) not in (0, (0, 0, 0)) or given.get("divisor_override") is not None or not whole:
        return F.avg_pool3d(x, kernel_size, stride, *rest, **more)
    return _windows(x, sizes, stride).mean(-1)


INSTEAD: Mapping[Any, Callable[..., Tensor]] = {
    F.interpolate: interpolate,
    F.cross_entropy: cross_entropy,
    F.max_pool3d: max_pool3d,
    F.avg_pool3d: avg_pool3d,
}


class Repeatable(TorchFunctionMode):
    """As long as it is entered, take the operations of this module for tensors on a GPU.

    Torch adds the gradients of trilinear interpolation, of poolings and of the cross-entropy of volumes in the order in
    which threads come, and has no other way; these add in a fixed order, at the price of memory and time.

    Args:
        device_type: the kind of device whose tensors are meant.
    """

    def __init__(self, device_type: str = "cuda") -> None:
        super().__init__()
        self.device_type = device_type

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, or what takes its place."""
        instead = INSTEAD.get(func)
        if instead is not None and args and args[0].device.type == self.device_type:
            return instead(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))
