"""Networks for one patch: the arguments that each gets, its parameters, multiply-adds and memory."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import signature
from pydoc import locate
from typing import Any

import torch
from torch import nn

from custom_networks.adapt.choices import deepest, down_sampling
from custom_networks.adapt.draft import format_sizes
from custom_networks.adapt.network import CPU, as_config_value, build, network_knobs, precision_of, step_bytes
from custom_networks.bundle_folder import configured
from custom_networks.compare.entries import MONAI, WIDE, Entry
from custom_networks.compare.padded import Padded
from custom_networks.files import read_json
from custom_networks.nets.segmenter import doubling
from custom_networks.workflow.memory.multiply_adds import multiply_adds

MOST_DIVISOR = 64
"""A network that takes no patch whose sides this number divides takes none."""
QUANTUM = 4
"""Channels by which a widened network may have more."""
NETWORK = "network_def"
WIDTHS = [16, 32, 64, 128]
"""Channels per level of a network of MONAI on a CPU where they are free: those of the bundles."""


@dataclass(frozen=True)
class Fit:
    """A network that takes the patch of the comparison.

    Args:
        entry: which it is.
        knobs: entries of its profile: its arguments, or its whole definition.
        parameters: their number.
        macs: multiply-adds of a forward pass of one patch.
        step_bytes: memory that a training step is expected to take.
        precision: what it is trained in, by the processor or the GPU and its grids.
        divisor: to what its input is padded; empty if it is not.
    """

    entry: Entry
    knobs: Mapping[str, Any] = field(repr=False)
    parameters: int
    macs: int
    step_bytes: int
    precision: str = ""
    divisor: tuple[int, ...] = ()


def common_patch(entries: Sequence[Entry], profile: Mapping[str, Any], device: torch.device = CPU) -> list[int]:
    """Return the patch of the profile, rounded to what the bundles' networks divide it by.

    Args:
        entries: the networks.
        profile: the profile, with ``patch_size`` and ``spacing``.
        device: what trains them.

    Example:
        with networks that halve it twice and four times, 52 x 52 x 84 becomes 48 x 48 x 80.
    """
    divisor = [1] * len(profile["patch_size"])
    for entry in entries:
        if entry.own:
            _, strides, _ = _arguments(entry, profile, profile["patch_size"], device.type != CPU.type)
            divisor = [math.lcm(part, *steps) for part, steps in zip(divisor, _products(strides), strict=True)]
    sizes = zip(profile["patch_size"], divisor, strict=True)
    return [max(part, round(size / part) * part) for size, part in sizes]


def _products(strides: Sequence[Sequence[int]]) -> list[tuple[int]]:
    return [(math.prod(steps),) for steps in zip(*strides, strict=True)]


def _arguments(
    entry: Entry, profile: Mapping[str, Any], patch: Sequence[int], scaled: bool
) -> tuple[list[int], Sequence[Sequence[int]], dict[str, Any]]:
    return network_knobs(entry.definition, profile["spacing"], patch, [float(n) for n in patch], scaled=scaled)


def fit(
    entries: Sequence[Entry], profile: Mapping[str, Any], patch: Sequence[int], device: torch.device = CPU
) -> list[Fit]:
    """Return the networks for a patch; a twin at equal cost that would be no wider than the plain one is left out.

    Args:
        entries: the networks.
        profile: the profile, without entries of a network.
        patch: voxels per axis.
        device: what trains them; on a GPU they have the depth and the width that ``adapt`` gives them there.

    Raises:
        ValueError: if a network cannot be built, or takes no such patch.
    """
    fits: list[Fit] = []
    for entry in entries:
        if entry.twin == WIDE:
            whole = _fit(replace(entry, definition=_definition_of(entry)), profile, patch, device)
            if (wide := _widened(entry, profile, patch, whole.macs, device)) is not None:
                fits.append(wide)
        else:
            fits.append(_fit(entry, profile, patch, device))
    return fits


def _fit(entry: Entry, profile: Mapping[str, Any], patch: Sequence[int], device: torch.device) -> Fit:
    scaled = device.type != CPU.type
    knobs: dict[str, Any] = {
        NETWORK: _sized(entry, _plain(entry, entry.definition, profile), profile["spacing"], patch, scaled)
    }
    if entry.own:
        own_patch, _, arguments = _arguments(entry, profile, patch, scaled)
        usual = _definition_of(entry)
        given = {key: value for key, value in entry.definition.items() if usual.get(key) != value}
        arguments |= {f"{NETWORK}#{key}": value for key, value in given.items()}
        own = {key.partition("#")[2]: value for key, value in arguments.items()}
        whole = _plain(entry, {**entry.definition, **own}, profile)
        knobs = arguments if own_patch == list(patch) else {NETWORK: whole}
    try:
        probe = build(entry.bundle, {**profile, **knobs})
    except ValueError as error:
        raise ValueError(f"{entry.name}: {error}; define it in a JSON file and give file.json#entry") from error
    divisor = [_divisor(probe, profile["in_channels"], patch, entry)] * len(patch)
    if max(divisor) > 1:
        target = f"{Padded.__module__}.{Padded.__qualname__}"
        inner = whole if entry.own else knobs[NETWORK]
        knobs = {NETWORK: {"_target_": target, "network": inner, "divisor": divisor}}
    network = build(entry.bundle, {**profile, **knobs})
    config = {**read_json(entry.bundle / "configs" / "train.json"), **profile}
    need = step_bytes(network, config, patch, profile["batch_size"], device)
    parameters = sum(p.numel() for p in network.parameters())
    macs = multiply_adds(Padded(probe, divisor), profile["in_channels"], patch)
    precision = precision_of({**config, "patch_size": list(patch)}, network, device)[0]
    return Fit(entry, knobs, parameters, macs, need, precision, tuple(divisor) if max(divisor) > 1 else ())


def _plain(entry: Entry, definition: Mapping[str, Any], profile: Mapping[str, Any]) -> dict[str, Any]:
    """Return a definition with the values of its references and expressions, so that it stands for itself."""
    config = read_json(entry.bundle / "configs" / "train.json")
    parser = configured({**config, NETWORK: dict(definition)}, entry.bundle, [as_config_value(profile)])

    def value_of(value: Any, place: str) -> Any:
        if isinstance(value, Mapping):
            return {key: value_of(own, f"{place}#{key}") for key, own in value.items() if key != "_requires_"}
        if isinstance(value, list):
            return [value_of(own, f"{place}#{number}") for number, own in enumerate(value)]
        if not isinstance(value, str) or not value.startswith(("@", "$")):
            return value
        try:
            found = parser.get_parsed_content(place)
            json.dumps(found)
        except Exception as error:  # whatever an expression raises
            raise ValueError(
                f"{entry.name} has {value} in its definition, which is no plain value; write one"
            ) from error
        return found

    plain: dict[str, Any] = value_of(definition, NETWORK)
    return plain


def _definition_of(entry: Entry) -> dict[str, Any]:
    """Return the network_def of a bundle."""
    definition: dict[str, Any] = read_json(entry.bundle / "configs" / "train.json")[NETWORK]
    return definition


def _sized(
    entry: Entry, definition: Mapping[str, Any], spacing: Sequence[float], patch: Sequence[int], scaled: bool
) -> dict[str, Any]:
    """Return the definition of a network of others, with widths, strides and kernels where it takes and has none."""
    kind = locate(str(definition["_target_"]))
    known = set(signature(kind).parameters) if isinstance(kind, type) else set()
    steps = max(2, deepest(spacing, patch)) if scaled else len(WIDTHS) - 1
    widths = doubling(steps + 1) if scaled else WIDTHS
    strides, kernels = down_sampling([2] * steps, 3, spacing, patch)
    own: dict[str, Any] = {"strides": [list(step) for step in strides]}
    if "upsample_kernel_size" in known:
        own |= {"upsample_kernel_size": own["strides"], "strides": [[1] * len(patch), *own["strides"]]}
        own["kernel_size"] = [list(kernel) for kernel in kernels]
    if "strides" not in known or "strides" in definition:
        own = {}
    if entry.name.startswith(f"{MONAI}:"):
        own |= {"init_filters": widths[0], "filters": widths, "channels": widths}
    return {**{key: value for key, value in own.items() if key in known}, **definition}


def _divisor(network: nn.Module, in_channels: int, patch: Sequence[int], entry: Entry) -> int:
    """Return the least power of two to whose multiples the patch must be padded."""
    divisor, problem = 1, ""
    bare = network.to("meta").eval()
    while divisor <= MOST_DIVISOR:
        try:
            with torch.no_grad():
                logits = Padded(bare, [divisor] * len(patch))(torch.zeros(1, in_channels, *patch, device="meta"))
        except Exception as error:  # whatever a network raises for a size that does not fit
            problem = str(error)
        else:
            if list(logits.shape[2:]) == list(patch):
                return divisor
            problem = f"its output is {format_sizes(logits.shape[2:])}"
        divisor *= 2
    raise ValueError(
        f"{entry.name} takes no patch of {format_sizes(patch)} voxels, padded or not ({problem.splitlines()[0]}); "
        "define it for this patch in a JSON file and give file.json#entry"
    )


def _widened(
    entry: Entry, profile: Mapping[str, Any], patch: Sequence[int], target: int, device: torch.device
) -> Fit | None:
    """Return the twin whose width makes it cost what the network with attention costs."""
    plain = _fit(entry, profile, patch, device)
    best: Fit | None = None
    features = list(plain.knobs.get(f"{NETWORK}#features", entry.definition["features"]))
    near, tried = math.sqrt(target / plain.macs), [features]  # the cost grows with the square of the width
    for factor in (near * step for step in (0.85, 0.9, 0.95, 1.0, 1.05, 1.1)):
        wider = [max(n, round(n * factor / QUANTUM) * QUANTUM) for n in features]
        if wider not in tried:
            tried.append(wider)
            own = replace(
                _fit(replace(entry, definition={**entry.definition, "features": wider}), profile, patch, device),
                entry=entry,
            )
            if best is None or _away(own, target) < _away(best, target):
                best = own
    return best if best is not None and _away(best, target) < _away(plain, target) else None


def _away(fit: Fit, target: int) -> float:
    return abs(math.log(fit.macs / target))
