"""The attention map of a module as one number per voxel, and where these voxels lie on the network's input."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

LARGEST_STRIDE = 64
"""Fine voxels per coarse voxel, or the divisor of the sizes that a network takes."""
TOLERANCE = 1e-3
"""Voxels; affines in files are rounded."""


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a coarse grid lie on the fine grid that it was computed from.

    Args:
        shape: number of voxels per axis.
        first: position of the centre of voxel (0, 0, 0), in fine voxels.
        spacing: fine voxels from one voxel to the next, per axis.
    """

    shape: tuple[int, ...]
    first: np.ndarray
    spacing: np.ndarray

    def position(self, fine: np.ndarray) -> np.ndarray:
        """Return the position, in voxels of this grid, of a position in fine voxels."""
        position: np.ndarray = (fine - self.first) / self.spacing
        return position

    def of(self, finer: Grid) -> Grid:
        """Return this grid, computed from ``finer``, in voxels of what ``finer`` was computed from."""
        return Grid(self.shape, finer.first + finer.spacing * self.first, finer.spacing * self.spacing)


@dataclass(frozen=True)
class Map:
    """One map of a module.

    Args:
        values: one number per voxel of ``grid``.
        grid: where they lie on the network's input.
        meaning: what the numbers are, for the picture.
    """

    values: np.ndarray
    grid: Grid
    meaning: str


def axis_placement(count: Callable[[int], int | None], size: int) -> tuple[float, float]:
    """Return the centre of the first voxel and the spacing of a coarse axis, learnt from how its length grows.

    A grid of n voxels that lie s apart needs at least m fine voxels; padding and what unpadded kernels take away are
    the same at both ends, so the first voxel starts at (m - s n) / 2. Both m and s show in the first two sizes, from
    ``size`` up, at which the coarse axis has grown. Where only multiples of a stride can be tried, padded windows that
    start half a stride early (3 taps, stride 2) are placed as if they covered their stride: less than half a coarse
    voxel off, and as a decoder resizes them.

    Args:
        count: number of coarse voxels for a number of fine ones, or ``None`` where a network does not take that number.
        size: number of fine voxels.

    Raises:
        ValueError: if the coarse axis does not grow with the fine one.

    Example:
        >>> axis_placement(lambda size: (size - 8) // 2, 28)  # a 9-tap kernel without padding, then pooling by two
        (4.5, 2.0)
    """
    last = count(size)
    grown: list[tuple[int, int]] = []
    for larger in range(size + 1, size + 2 * LARGEST_STRIDE + 1):
        length = count(larger)
        if last is not None and length is not None and length > last:
            grown.append((larger, length))
            last = length
            if len(grown) == 2:
                (fine, coarse), (finer, larger_coarse) = grown
                spacing = (finer - fine) / (larger_coarse - coarse)
                return (fine - spacing * coarse) / 2 + (spacing - 1) / 2, spacing
    raise ValueError(
        "its grid does not grow with the image as far as the network can be run, so that its place is unknown"
    )


def attention_modules(network: nn.Module) -> dict[str, nn.Module]:
    """Return the outermost modules that have an ``attention_map``, by their names in ``named_modules``."""
    found: dict[str, nn.Module] = {}
    for name, module in network.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if name and not inside and callable(getattr(module, "attention_map", None)):
            found[name] = module
    return found


def captured_inputs(network: nn.Module, names: Sequence[str], image: Tensor) -> dict[str, list[tuple[Tensor, ...]]]:
    """Run a network once, without gradients, and return what every call of the named modules got.

    Args:
        network: the network, in evaluation mode.
        names: names of submodules.
        image: ``(1, C, *spatial)``.
    """
    calls: dict[str, list[tuple[Tensor, ...]]] = {name: [] for name in names}

    def keep(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
            # A copy: a later layer may write into the tensor.
            calls[name].append(tuple(value.clone() for value in (*args, *kwargs.values())))

        return hook

    handles = [network.get_submodule(n).register_forward_pre_hook(keep(n), with_kwargs=True) for n in names]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for handle in handles:
            handle.remove()
    return calls


class GridFinder:
    """Find where the grids of modules lie on the network's input, by runs without data on larger inputs.

    Args:
        network: the network.
        names: the modules.
        shape: ``(1, C, *spatial)`` of the input.
    """

    def __init__(self, network: nn.Module, names: Sequence[str], shape: Sequence[int]) -> None:
        self.network = copy.deepcopy(network).to("meta")
        self.names = names
        self.shape = tuple(shape)
        self.known: dict[tuple[int, ...], dict[str, tuple[int, ...]]] = {}

    def _grids(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        if shape not in self.known:
            try:
                calls = captured_inputs(self.network, self.names, torch.empty(shape, device="meta"))
            except Exception:  # whatever a network raises on a size that it cannot take
                calls = {}
            self.known[shape] = {name: tuple(args[0][0].shape[2:]) for name, args in calls.items() if args}
        return self.known[shape]

    def _length(self, name: str, axis: int, size: int) -> int | None:
        shape = list(self.shape)
        shape[axis + 2] = size
        grid = self._grids(tuple(shape)).get(name)
        return None if grid is None else grid[axis]

    def grid(self, name: str) -> Grid:
        """Return the grid of a module's first input.

        Args:
            name: the module.

        Raises:
            ValueError: if the grid does not grow with the input.
        """
        placements = [
            axis_placement(partial(self._length, name, axis), size) for axis, size in enumerate(self.shape[2:])
        ]
        first, spacing = np.array(placements).T
        return Grid(self._grids(self.shape)[name], first, spacing)


def keys_along(module: Any, x: Tensor, axis: int, length: int) -> int:
    """Return how many keys a token-by-token map has for an input with one axis of some length, the others of one.

    Args:
        module: module whose ``attention_map`` returns ``(B, ..., N, M)``.
        x: its input ``(1, C, *spatial)``.
        axis: spatial axis.
        length: voxels along it.

    Raises:
        ValueError: if the rows of the map do not stand for voxels.
    """
    shape = [1, x.shape[1]] + [1] * (x.dim() - 2)
    shape[axis + 2] = length
    rows, columns = module.attention_map(x.new_zeros(shape)).shape[-2:]
    if rows != length:
        raise ValueError("its map joins channels or parts of the module, not voxels: it has no place in the image")
    return int(columns)


def key_grid(module: Any, x: Tensor) -> Grid:
    """Return the grid of the keys of a token-by-token map, in voxels of the module's input.

    Args:
        module: module whose ``attention_map`` returns ``(B, ..., N, M)``.
        x: its input ``(1, C, *spatial)``.

    Raises:
        ValueError: if rows or columns do not stand for voxels.
    """
    counts = [partial(keys_along, module, x, axis) for axis in range(x.dim() - 2)]
    lengths = tuple(count(size) for count, size in zip(counts, x.shape[2:], strict=True))
    placements = [axis_placement(count, size) for count, size in zip(counts, x.shape[2:], strict=True)]
    first, spacing = np.array(placements).T
    return Grid(lengths, first, spacing)


def query_index(grid: Grid, point: np.ndarray) -> tuple[int, ...]:
    """Return the voxel of a grid in which a point of the network's input lies.

    Args:
        grid: the grid.
        point: in voxels of the network's input.

    Raises:
        ValueError: if it lies in none.
    """
    position, size = grid.position(point), np.array(grid.shape)
    if (np.abs(position - (size - 1) / 2) > size / 2 + TOLERANCE).any():
        raise ValueError("the query voxel lies outside the part of the image that its grid covers; choose another")
    return tuple(int(i) for i in np.clip(np.floor(position + 0.5), 0, size - 1))


def spatial_map(module: Any, inputs: Sequence[Tensor], grid: Grid, point: np.ndarray) -> Map:
    """Return the map of a module as one number per voxel.

    The mean over the channels of a gate; the row of the query voxel, mean over heads, of a token-by-token map, or of a
    map along the lines through each voxel (nothing off the lines).

    Args:
        module: module with ``attention_map``.
        inputs: what its forward got.
        grid: the grid of its first input.
        point: the query on the network's input, in voxels.

    Raises:
        ValueError: if the map has no place in the image, or none for the query.
    """
    size = grid.shape
    with torch.no_grad():
        weights: Tensor = module.attention_map(*inputs).float().cpu()
        if prod(size) == 1:
            raise ValueError("its grid has a single voxel, so that its map has no place in the image")
        if tuple(weights.shape[2:]) == size:
            mean = weights[0].mean(0)
            if (mean.max() - mean.min()) * 1e3 < weights.max() - weights.min():
                raise ValueError("its channels sum to the same number at every voxel, so that their mean shows nothing")
            shown = f", mean over {weights.shape[1]} channels" if weights.shape[1] > 1 else ""
            return Map(mean.numpy(), grid, f"gate{shown}")
        heads = weights.shape[1] if weights.dim() > 3 else 1
        shown = f", mean over {heads} heads" if heads > 1 else ""
        meaning = f"attention that the marked voxel pays{shown}"
        if tuple(weights.shape[2:-1]) == size and weights.shape[-1] == sum(size):
            query = query_index(grid, point)
            values = torch.zeros(size)
            for axis, line in enumerate(weights[0].mean(0)[query].split(list(size))):
                values[tuple(slice(None) if a == axis else i for a, i in enumerate(query))] += line
            return Map(values.numpy(), grid, meaning)
        if weights.dim() in (3, 4) and len(inputs) == 1 and weights.shape[-2] == prod(size):
            keys = key_grid(module, inputs[0])
            if prod(keys.shape) == weights.shape[-1]:
                row = int(np.ravel_multi_index(query_index(grid, point), size))
                values = weights[0].reshape(heads, prod(size), -1)[:, row].mean(0).reshape(keys.shape)
                return Map(values.numpy(), keys.of(grid), meaning)
    raise ValueError(f"its map has the shape {tuple(weights.shape)}, which has no place in the image")


def only_input(calls: Sequence[tuple[Tensor, ...]], dimensions: int) -> tuple[Tensor, ...]:
    """Return what a module got that saw the whole image at once.

    Args:
        calls: what every call of the module got.
        dimensions: number of axes of the network's input.

    Raises:
        ValueError: if it was not called once, with one map ``(1, C, *spatial)``.
    """
    if len(calls) != 1 or calls[0][0].shape[0] != 1:
        raise ValueError(f"it was called {len(calls)} times, or with parts of the image, and has no single map")
    if calls[0][0].dim() != dimensions:
        raise ValueError(f"its input has the shape {tuple(calls[0][0].shape)}, which is no grid of voxels")
    return calls[0]


def attention_maps(
    network: nn.Module, names: Sequence[str], image: Tensor, point: np.ndarray
) -> dict[str, Map | ValueError]:
    """Run a network once on an image and return the map of every module, or why it has none.

    Args:
        network: the network, in evaluation mode.
        names: the modules.
        image: ``(1, C, *spatial)`` of a size that the network takes.
        point: the query in voxels of ``image``.
    """
    calls = captured_inputs(network, names, image)
    finder = GridFinder(network, names, image.shape)
    maps: dict[str, Map | ValueError] = {}
    for name in names:
        try:
            inputs = only_input(calls[name], image.dim())
            maps[name] = spatial_map(network.get_submodule(name), inputs, finder.grid(name), point)
        except ValueError as error:
            maps[name] = error
    return maps
