"""Grids that are too thin for torch's bfloat16 on a CPU, strides that are too wide, and the networks with either."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from monai.networks.utils import eval_mode
from torch import Tensor, nn
from torch.func import functional_call

logger = logging.getLogger(__name__)
Convolved = tuple[nn.Conv3d, Sequence[int]]
"""A convolution, and the voxels per axis of what it is given."""
WIDEST = 2
"""Stride along the last axis up to which torch's bfloat16 is right."""
_traced: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], bool]] = WeakKeyDictionary()


def is_thin(network: Callable[..., Any], size: Sequence[int]) -> bool:
    """Return whether a network convolves a grid too thin for torch's bfloat16 on a CPU, or with too wide a stride.

    Gradients of the weights of a padded 3D convolution in bfloat16 are garbage where the first axis has fewer voxels
    than the kernel, or the second fewer than the padding; on processors with AMX the result itself is wrong on a single
    slice along the first axis, and where a stride along the third axis leaves one voxel there. A stride of 3 or more
    along the last axis, in 2D as well, gives garbage or writes beyond its memory, by kernel and channels (torch 2.13,
    docs/decisions/mixed-precision.md).

    A network of this package says by ``coarsest_grid`` how small its grids become, and all of its convolutions are
    held against that; of another, one pass on tensors without contents shows what each convolution is given. One that
    cannot be run so is not called thin, which is logged.

    Args:
        network: the network.
        size: voxels of its input per axis.

    Cost:
        For a network without ``coarsest_grid`` a pass that computes nothing, once for each size.

    Example:
        >>> from custom_networks.nets import AttentionUnet
        >>> net = AttentionUnet(3, 1, 2, features=(4, 8, 16))
        >>> is_thin(net, (8, 40, 40)), is_thin(net, (40, 40, 8))
        (True, False)
    """
    bare: Any = network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network
    if not isinstance(bare, nn.Module) or getattr(bare, "apart_from_torch", False):
        return False
    layers = _convolutions(bare)
    if any(layer.stride[-1] > WIDEST for layer in layers):
        return True
    if len(size) != 3:
        return False
    coarsest_grid: Any = getattr(bare, "coarsest_grid", None)
    if coarsest_grid is None:
        known = _traced.setdefault(bare, {})
        if tuple(size) not in known:
            traced = _trace(bare, size)
            known[tuple(size)] = any(_is_wrong(layer, given, left_of(layer, given[2])) for layer, given in traced)
        return known[tuple(size)]
    grid = coarsest_grid(size)
    return any(_is_wrong(layer, grid, grid[2]) for layer in layers if isinstance(layer, nn.Conv3d))


def _convolutions(network: nn.Module) -> list[nn.Conv2d | nn.Conv3d]:
    """Return those that torch convolves."""
    return [
        layer
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d | nn.Conv3d) and not getattr(layer, "is_matrix_product", False)
    ]


def _is_wrong(layer: nn.Conv3d, given: Sequence[int], left: int) -> bool:
    """Return whether torch is wrong, for a convolution of so many voxels that leaves so many along the third axis."""
    padded, kernel = any(layer.padding), layer.kernel_size
    return (padded and (given[0] < kernel[0] or given[1] < kernel[1] // 2)) or (layer.stride[2] > 1 and left <= 1)


def left_of(layer: nn.Conv3d, given: int) -> int:
    """Return the voxels that a convolution leaves along the third axis.

    Args:
        layer: the convolution.
        given: voxels along that axis before it.

    Example:
        >>> left_of(nn.Conv3d(1, 1, 3, stride=2, padding=1), 2), left_of(nn.Conv3d(1, 1, 3, padding="same"), 5)
        (1, 5)
    """
    if layer.padding == "same":
        return given
    padding = 0 if isinstance(layer.padding, str) else layer.padding[2]
    return (given + 2 * padding - layer.dilation[2] * (layer.kernel_size[2] - 1) - 1) // layer.stride[2] + 1


def without_contents(network: nn.Module, device: torch.device | str | None = None) -> dict[str, Tensor]:
    """Return tensors like the parameters and buffers of a network, wherever those are, to run it with.

    Each module has them under one of its names: ``functional_call`` would leave them in one that has two.

    Args:
        network: the network.
        device: "meta", or ``None`` for the fake mode that is on.
    """
    own: dict[int, Tensor] = {}
    state = {}
    for prefix, module in network.named_modules():
        parameters = module.named_parameters(recurse=False, remove_duplicate=False)
        buffers = module.named_buffers(recurse=False, remove_duplicate=False)
        for name, real in [*parameters, *buffers]:
            if id(real) not in own:
                empty = torch.empty(real.shape, dtype=real.dtype, device=device)
                own[id(real)] = empty.requires_grad_(real.requires_grad)
            state[f"{prefix}.{name}" if prefix else name] = own[id(real)]
    return state


def _trace(network: nn.Module, size: Sequence[int]) -> list[Convolved]:
    """Return what every convolution of a network is given, for an input of so many voxels."""
    layers = [layer for layer in _convolutions(network) if isinstance(layer, nn.Conv3d)]
    found: list[Convolved] = []
    if not layers:
        return found

    def note(layer: nn.Conv3d, given: tuple[Tensor, ...]) -> None:
        found.append((layer, tuple(given[0].shape[2:])))

    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    image = torch.empty(1, layers[0].in_channels, *size, device="meta")
    try:
        with torch.no_grad(), eval_mode(network):
            functional_call(network, without_contents(network, "meta"), image, tie_weights=False)
    except Exception as error:  # whatever a network raises that reads values
        logger.info("grids too thin for bfloat16 on a CPU are not looked for in this network: %s", error)
    finally:
        for hook in hooks:
            hook.remove()
    return found
