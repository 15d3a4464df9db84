"""The network of a bundle, its patch and its batch, for data of some size and spacing and for some memory."""

from __future__ import annotations

import math
import re
from ast import literal_eval
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from pydoc import locate
from typing import Any

import torch
from torch import Tensor, nn

from custom_networks.adapt.choices import (
    MAX_VOXELS,
    MIN_VOXELS,
    Triple,
    down_sampling,
    largest_patch,
    rounded_patch,
)
from custom_networks.adapt.draft import format_sizes
from custom_networks.bundle_folder import configured
from custom_networks.files import read_json
from custom_networks.nets.segmenter import Segmenter
from custom_networks.workflow.infer.inferers import is_thin, network_dtype
from custom_networks.workflow.memory.bill import format_bytes, training_bytes

# how much smaller a patch that takes too much becomes at least
SHRINK = 0.9
# patches of fewer voxels are halved in number before they shrink further
LEAST_IN_BATCHES = 32**3


@dataclass(frozen=True)
class Fit:
    """A patch, a batch and a network that go together.

    Args:
        knobs: profile entries of the network.
        patch_size: voxels per axis.
        batch_size: patches per step.
        step_bytes: expected memory of a training step.
        whole: whether the patch is as large as the median image.
        limited: whether the memory made it smaller.
        strides: strides per axis of each step.
        network: the network.
    """

    knobs: Mapping[str, Any]
    patch_size: Sequence[int]
    batch_size: int
    step_bytes: int
    whole: bool
    limited: bool
    strides: Sequence[Triple]
    network: nn.Module


class _Spread(nn.Module):
    """A classifier whose logits the memory bill can take for those of voxels."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier
        self.coarsest_grid = getattr(classifier, "coarsest_grid", None)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(x)
        return logits[..., None, None, None].expand(-1, -1, *x.shape[2:])


def as_config_value(value: Any) -> Any:
    r"""Return a profile entry whose texts MONAI's configs take as they are.

    A text that begins with ``$``, ``@`` or ``%`` would be evaluated, and a ``#`` in it becomes ``::``; such a text is
    written as an expression whose value it is.

    Args:
        value: text, number, list or object.

    Example:
        >>> as_config_value({"dataset_dir": "/my data/#1", "epochs": 3})
        {'dataset_dir': "$'/my data/\\x231'", 'epochs': 3}
    """
    if isinstance(value, Mapping):
        return {key: as_config_value(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [as_config_value(entry) for entry in value]
    if isinstance(value, str) and ("#" in value or value.startswith(("$", "@", "%"))):
        return "$" + re.sub("[#@%]", lambda match: f"\\x{ord(match[0]):02x}", repr(value))
    return value


def from_config_value(value: Any) -> Any:
    r"""Return what a profile entry was before :func:`as_config_value`.

    Args:
        value: text, number, list or object.

    Example:
        >>> from_config_value(as_config_value({"dataset_dir": "/my data/#1", "epochs": 3}))
        {'dataset_dir': '/my data/#1', 'epochs': 3}
    """
    if isinstance(value, Mapping):
        return {key: from_config_value(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [from_config_value(entry) for entry in value]
    if isinstance(value, str) and value[:2] in ("$'", '$"'):
        with suppress(ValueError, SyntaxError):  # an expression that is no text stays what it is
            return literal_eval(value[1:])
    return value


def build(bundle: Path, profile: Mapping[str, Any]) -> nn.Module:
    """Return the network of a bundle under a profile.

    Args:
        bundle: the bundle's folder.
        profile: overrides.

    Raises:
        ValueError: if it cannot be built.
    """
    config = read_json(bundle / "configs" / "train.json")
    try:
        network = configured(config, bundle, [as_config_value(profile)]).get_parsed_content("network_def")
    except Exception as error:  # MONAI wraps whatever the network raised
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise ValueError(f"{bundle.name} cannot build its network with this profile ({cause})") from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"network_def of {bundle.name} makes no network; correct its train.json")  # noqa: TRY004
    return network


def precision_of(config: Mapping[str, Any], network: nn.Module) -> tuple[str, str]:
    """Return the precision in which this machine's processor trains, for which a plan is made, and why.

    Args:
        config: train.json with the profile laid over it.
        network: its network.
    """
    if network_dtype(torch.device("cpu"), config["amp"], network, config["patch_size"]) is torch.bfloat16:
        return "bfloat16", "what the memory of a step is for; where a processor has none, float32 takes more"
    why = "this processor does not compute in bfloat16"
    if not config["amp"]:
        why = "amp is false"
    elif is_thin(network, config["patch_size"]):
        why = "along its first axis the patch is too thin for torch's bfloat16 on processors"
    return "float32", f"what the memory of a step is for; {why}"


def step_bytes(network: nn.Module, config: Mapping[str, Any], patch_size: Sequence[int], batch_size: int) -> int:
    """Return the memory that a training step is expected to take on this machine's CPU, see :func:`precision_of`.

    Args:
        network: a segmentation network or a classifier.
        config: train.json with the profile laid over it.
        patch_size: voxels per axis.
        batch_size: patches per step.
    """
    classifies = "min_size" in vars(network)
    return training_bytes(
        _Spread(network) if classifies else network,
        in_channels=config["in_channels"],
        patch_size=patch_size,
        batch_size=batch_size,
        amp=config["amp"],
    )


def fit(bundle: Path, config: Mapping[str, Any], knobs: Mapping[str, Any], median: Sequence[int], memory: int) -> Fit:
    """Return the largest patch that the bounds allow, with the network that takes it.

    The patch is the median image at ``spacing`` or, where that has more than 64 x 64 x 64 voxels, the largest cube in
    mm of so many voxels, cut to the median image: a step with two such patches takes seconds on a CPU. Where a training
    step would take more than the memory, patches become smaller, down to 32 x 32 x 32 voxels; then the batch becomes
    one.

    Args:
        bundle: the bundle's folder.
        config: its train.json.
        knobs: the profile as far as it is known; holds spacing, channels and classes.
        median: voxels of the median image at ``spacing``.
        memory: bytes.

    Raises:
        ValueError: if the smallest patch takes more.
    """
    laid_over = {**config, **knobs}
    need = 0
    for batch_size, least in ((config["batch_size"], LEAST_IN_BATCHES), (1, MIN_VOXELS)):
        bound = float(MAX_VOXELS)
        while bound >= min(least, math.prod(median)):
            patch, strides, own = _network_knobs(config["network_def"], knobs["spacing"], median, bound)
            network = build(bundle, {**knobs, **own})
            need = step_bytes(network, laid_over, patch, batch_size)
            if need <= memory:
                whole = all(n >= size for n, size in zip(patch, median, strict=True))
                limited = bound < MAX_VOXELS or batch_size < config["batch_size"]
                return Fit(own, patch, batch_size, need, whole, limited, strides, network)
            bound = math.prod(patch) * min(SHRINK, memory / need)
    raise ValueError(
        f"a training step of {bundle.name} takes {format_bytes(need)} with a single patch of {format_sizes(patch)} "
        f"voxels, but --memory allows {format_bytes(memory)}; give more"
    )


def _network_knobs(
    definition: Mapping[str, Any], spacing: Sequence[float], median: Sequence[int], max_voxels: float
) -> tuple[list[int], list[Triple], dict[str, Any]]:
    """Return patch, strides and profile entries of a network for a bound of the patch."""
    kind = locate(str(definition["_target_"]))
    if not isinstance(kind, type) or not issubclass(kind, Segmenter):
        raise ValueError(  # noqa: TRY004 - the bundle is wrong
            f"network_def must be a segmentation network of custom_networks.nets, got {definition['_target_']}; "
            "use a bundle that has one"
        )
    given = kind.steps_of(definition, len(spacing))
    raw = largest_patch(median, spacing, max_voxels)
    strides, kernels = down_sampling([max(step) for step in given], definition["kernel_size"], spacing, raw)
    patch = rounded_patch(raw, median, [math.prod(steps) for steps in zip(*strides, strict=True)])
    chosen = kind.step_arguments(strides, kernels)
    kernel_size = chosen.pop("kernel_size")
    own: dict[str, Any] = {} if strides == given else chosen
    if any(len(set(kernel)) > 1 for kernel in kernel_size):
        own["kernel_size"] = kernel_size
    own |= kind.patch_arguments(patch, {**definition, **own})
    return patch, strides, {f"network_def#{key}": value for key, value in own.items()}
