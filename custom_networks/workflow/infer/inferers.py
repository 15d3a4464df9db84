"""Inferers that run the network in the mixed precision that a device computes in, the loss staying in float32."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain, combinations
from typing import Any

import torch
from monai.data import MetaTensor
from monai.data.utils import compute_importance_map
from monai.inferers import Inferer
from monai.utils import BlendMode
from torch import Tensor

from custom_networks.workflow.infer.finite import refuse_non_finite
from custom_networks.workflow.infer.thin_grids import is_thin
from custom_networks.workflow.infer.windows import (
    blend,
    pad_to_window,
    window_and_batch,
    windows_of,
)
from custom_networks.workflow.transforms.regions import Regions, innermost

logger = logging.getLogger(__name__)


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device is known to compute in bfloat16 natively (emulation is slower than float32).

    Args:
        device: a CUDA device (compute capability 8.0 or newer has it) or the CPU (AVX512-BF16 or AMX-BF16), of which
            torch tells from 2.11 on; before, it counts as without.

    Example:
        >>> has_bfloat16(torch.device("meta"))
        False
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "cpu":
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def has_float16(device: torch.device) -> bool:
    """Return whether the device computes fast in float16 and not in bfloat16: a GPU of compute capability 7.

    Args:
        device: any device.

    Example:
        >>> has_float16(torch.device("cpu"))
        False
    """
    if device.type != "cuda" or not torch.cuda.is_available():
        return False
    return torch.cuda.get_device_capability(device)[0] == 7


def needs_loss_scaling(amp: bool, device: torch.device | str) -> bool:
    """Return whether a training runs in float16, whose small gradients are lost unless the loss is scaled.

    Args:
        amp: whether mixed precision is wanted.
        device: where the network runs.

    Example:
        >>> needs_loss_scaling(True, "cpu")
        False
    """
    return amp and not has_bfloat16(torch.device(device)) and has_float16(torch.device(device))


def network_dtype(device: torch.device, amp: bool, network: Callable[..., Any], size: Sequence[int]) -> torch.dtype:
    """Return the precision that a network runs in.

    Where mixed precision is wanted, it is bfloat16 on a device that computes in it, but float32 on a CPU for a network
    that is thin (:func:`is_thin`); float16 on a GPU that is fast in that alone (:func:`has_float16`); else float32.

    Args:
        device: where it runs.
        amp: whether mixed precision is wanted.
        network: the network.
        size: voxels of its input per axis.

    Example:
        >>> network_dtype(torch.device("cpu"), amp=False, network=nn.Identity(), size=(8, 8, 8))
        torch.float32
    """
    if not amp or (device.type == "cpu" and has_bfloat16(device) and is_thin(network, size)):
        return torch.float32
    if has_bfloat16(device):
        return torch.bfloat16
    return torch.float16 if has_float16(device) else torch.float32


@cache
def _warn_of_float32(size: tuple[int, ...]) -> None:
    logger.warning(
        "the network runs in float32 although amp is true: with %s voxels one of its grids is so thin that torch's "
        "bfloat16 is wrong on a CPU; enlarge patch_size along its shortest axes, or set amp to false",
        size,
    )


def autocast_forward(network: Callable[..., Tensor], inputs: Tensor, amp: bool, *args: Any, **kwargs: Any) -> Tensor:
    """Run a network under autocast in the precision of :func:`network_dtype` and return float32.

    bfloat16 has the exponent range of float32, so no loss scaling is needed; with float16 a training scales its loss
    (:func:`needs_loss_scaling`). On a device without either, and on a CPU where the network is thin (:func:`is_thin`, a
    warning says so once), it runs in float32 whatever ``amp`` says.

    Args:
        network: the network.
        inputs: ``(B, C, *spatial)``; its device decides about autocast.
        amp: whether mixed precision is wanted.
        *args: passed to the network.
        **kwargs: passed to the network.
    """
    size = tuple(inputs.shape[2:])
    dtype = network_dtype(inputs.device, amp, network, size)
    enabled = dtype is not torch.float32
    if amp and not enabled and has_bfloat16(inputs.device):
        _warn_of_float32(size)
    with torch.autocast(inputs.device.type, dtype=dtype if enabled else torch.bfloat16, enabled=enabled):
        return network(inputs, *args, **kwargs).float()


def flips(mirror_axes: Sequence[int], spatial_dims: int) -> list[tuple[int, ...]]:
    """Return the tensor dimensions of all 2^n flips of n spatial axes, that of no axis first.

    Args:
        mirror_axes: spatial axes, 0 the first.
        spatial_dims: number of spatial axes.

    Raises:
        ValueError: if an axis does not exist or occurs twice.

    Example:
        >>> flips([0, 2], 3)
        [(), (2,), (4,), (2, 4)]
    """
    if any(not 0 <= axis < spatial_dims for axis in mirror_axes) or len(set(mirror_axes)) < len(mirror_axes):
        raise ValueError(
            f"mirror_axes must hold different spatial axes 0 to {spatial_dims - 1}, got {list(mirror_axes)}; "
            "use [] for none"
        )
    axes = [axis + 2 for axis in mirror_axes]
    return list(chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1)))


class AutocastInferer(Inferer):
    """Training inferer: one forward pass, in mixed precision on CPU and GPU alike.

    MONAI's engines autocast on CUDA only.

    Args:
        amp: whether to use mixed precision where the device has it.

    Example:
        >>> AutocastInferer(amp=False)(torch.zeros(1, 1, 2, 2, 2), torch.nn.Identity()).dtype
        torch.float32
    """

    def __init__(self, amp: bool = True) -> None:
        super().__init__()
        self.amp = amp

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Return the network's output in float32.

        Args:
            inputs: ``(B, C, *spatial)``.
            network: the network.
            *args: passed to the network.
            **kwargs: passed to the network.
        """
        return autocast_forward(network, inputs, self.amp, *args, **kwargs)


class MirrorInferer(AutocastInferer):
    """Inferer of a classifier: the mean of the logits over all flips of the given axes, in mixed precision.

    Args:
        mirror_axes: spatial axes to flip; the mean runs over all 2^n combinations. Leave empty where chirality matters.
        amp: whether to use mixed precision where the device has it.

    Raises:
        ValueError: when called, if an axis does not exist or occurs twice, or the output is not finite.

    Cost:
        2^n forward passes for n mirrored axes.

    Example:
        >>> inferer = MirrorInferer([1], amp=False)
        >>> inferer(torch.tensor([[[[1.0, 5.0]]]]), lambda x: x[:, :, 0, 0])
        tensor([[3.]])
    """

    def __init__(self, mirror_axes: Sequence[int] = (), amp: bool = True) -> None:
        super().__init__(amp)
        self.mirror_axes = list(mirror_axes)

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Return the logits ``(B, K)`` in float32.

        Args:
            inputs: ``(B, C, *spatial)``.
            network: the classifier.
            *args: passed to the network.
            **kwargs: passed to the network.
        """
        views = [inputs.flip(flip) for flip in flips(self.mirror_axes, inputs.dim() - 2)]
        logits = [super(MirrorInferer, self).__call__(view, network, *args, **kwargs) for view in views]
        return refuse_non_finite(torch.stack(logits).mean(0), inputs, self.amp)


def largest(logits: Tensor) -> Tensor:
    """Return the class of the largest probability, the first of equal ones.

    Class by class: torch's argmax over the first axis takes several times as long on a CPU.

    Args:
        logits: ``(K, *S)``, up to 256 classes.

    Shape:
        ``(*S)``, uint8.

    Example:
        >>> largest(torch.tensor([[0.0, 1.0, 2.0], [0.0, 3.0, 1.0]]))
        tensor([0, 1, 0], dtype=torch.uint8)
    """
    probabilities = logits.softmax(0)
    best = probabilities[0].clone()
    classes = torch.zeros_like(best, dtype=torch.uint8)
    for index, one in enumerate(probabilities[1:], 1):
        classes.masked_fill_(one > best, index)
        torch.maximum(best, one, out=best)
    return classes


class MirrorSlidingWindowInferer(Inferer):
    """Sliding window whose logits are the mean over all flips of the given axes, in mixed precision.

    Windows, their weights and the padding are those of :func:`monai.inferers.sliding_window_inference`.

    Args:
        roi_size: window in voxels, one entry per spatial axis.
        mirror_axes: spatial axes to flip; the mean runs over all 2^n combinations. Leave empty where chirality matters.
        amp: whether to use mixed precision where the device has it.
        low_memory: whether to hold the logits of one slab at a time and return a map of class indices instead of
            logits (:func:`custom_networks.workflow.infer.windows.blend`).
        regions: the knob of that name: with it and ``low_memory``, the class is the innermost region.
        sw_batch_size: windows per forward pass. A network whose ``is_local()`` is true gets one window as large as
                them.
        overlap: share of a window that the next one covers, 0 to less than 1.
        mode: "constant" or "gaussian" weights within a window.
        skip_air: whether windows lie over the box of what is not air, and those of air alone are not run
            (:mod:`custom_networks.workflow.infer.air`). Their voxels are the mean over the windows that were run, or
            background where there is none.

    Raises:
        ValueError: if an axis does not exist or occurs twice or the overlap is none, or, when called, if the network's
            output is not finite.

    Cost:
        2^n forward passes per window for n mirrored axes. With overlap o, about 1 / (1 - o)^3 windows cover a voxel.

    Example:
        >>> inferer = MirrorSlidingWindowInferer((4, 4, 4), mirror_axes=(0, 2), amp=False)
        >>> inferer(torch.ones(1, 1, 3, 5, 4), torch.nn.Identity()).shape
        torch.Size([1, 1, 3, 5, 4])
    """

    def __init__(
        self,
        roi_size: Sequence[int],
        *,
        mirror_axes: Sequence[int] = (),
        amp: bool = True,
        low_memory: bool = False,
        regions: Regions = None,
        sw_batch_size: int = 1,
        overlap: float = 0.25,
        mode: str = "constant",
        skip_air: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= overlap < 1:
            raise ValueError(f"overlap must be a number from 0 to less than 1, got {overlap}; use for example 0.5")
        self.roi_size = tuple(roi_size)
        self.amp = amp
        self.low_memory = low_memory
        self.regions = regions
        self.sw_batch_size = sw_batch_size
        self.overlap = overlap
        self.mode = BlendMode(mode)
        self.skip_air = skip_air
        self.flips = flips(mirror_axes, len(roi_size))
        self._weights: tuple[Any, Tensor] = (None, torch.empty(0))

    def weights(self, roi_size: Sequence[int], inputs: Tensor) -> Tensor:
        """Return the weights within a window; those of the last kind of window are kept.

        Args:
            roi_size: window in voxels.
            inputs: has the device and the type.
        """
        kind = (tuple(roi_size), inputs.device, inputs.dtype)
        if self._weights[0] != kind:
            made = compute_importance_map(
                tuple(roi_size), mode=self.mode, sigma_scale=0.125, device=inputs.device, dtype=inputs.dtype
            )
            self._weights = (kind, made)
        return self._weights[1]

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        """Return the logits ``(B, K, *spatial)`` in float32, with ``low_memory`` the classes ``(B, 1, *spatial)``.

        Args:
            inputs: ``(B, C, *spatial)``, any size; smaller axes are padded to the window and cropped again.
            network: the network, any callable.
            *args: passed to the network.
            **kwargs: passed to the network.
        """

        def predict(window: Tensor) -> Tensor:
            logits = autocast_forward(network, window, self.amp, *args, **kwargs)
            for flip in self.flips[1:]:
                logits = logits + autocast_forward(network, window.flip(flip), self.amp, *args, **kwargs).flip(flip)
            return refuse_non_finite(logits / len(self.flips), inputs, self.amp)

        roi_size, batch = window_and_batch(network, self.roi_size, inputs.shape[2:], self.sw_batch_size)
        padded, inside = pad_to_window(inputs.as_subclass(Tensor), roi_size)
        results = []
        for image in padded:
            one = blend(
                image,
                predict,
                windows_of(image, inside, roi_size, self.overlap, self.skip_air),
                self.weights(roi_size, padded),
                sw_batch_size=batch,
                regions=self.regions is not None,
                to_classes=self._to_classes if self.low_memory else None,
            )
            results.append(one[None] if self.low_memory else one)
        result = torch.stack(results) if len(results) > 1 else results[0][None]
        result = result[(slice(None), slice(None), *inside)]
        return MetaTensor(result).copy_meta_from(inputs, copy_attr=False) if isinstance(inputs, MetaTensor) else result

    def _to_classes(self, logits: Tensor) -> Tensor:
        return largest(logits) if self.regions is None else innermost(logits.sigmoid())
