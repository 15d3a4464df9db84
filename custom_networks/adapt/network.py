"""The network of a bundle for a patch and a spacing: its arguments, its precision and the memory of a step."""

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

from custom_networks.adapt.choices import Triple, deepest, down_sampling, rounded_patch
from custom_networks.bundle_folder import configured
from custom_networks.files import read_json
from custom_networks.nets.segmenter import Segmenter
from custom_networks.workflow.infer.inferers import network_dtype
from custom_networks.workflow.infer.thin_grids import is_thin
from custom_networks.workflow.memory.bill import training_bytes

CPU = torch.device("cpu")


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


def precision_of(config: Mapping[str, Any], network: nn.Module, device: torch.device = CPU) -> tuple[str, str]:
    """Return the precision in which a training runs, for which a plan is made, and why.

    Args:
        config: train.json with the profile laid over it.
        network: its network.
        device: this machine's processor, or a GPU, which need not be there.
    """
    why = "what the memory of a step is for"
    if not config["amp"]:
        return "float32", f"{why}; amp is false"
    if device.type == "cuda":
        return "bfloat16", f"{why}; float16 on GPUs of compute capability 7, float32 on older ones, where it takes more"
    if network_dtype(device, True, network, config["patch_size"]) is torch.bfloat16:
        return "bfloat16", f"{why}; where a processor has none, float32 takes more"
    if is_thin(network, config["patch_size"]):
        return "float32", f"{why}; the patch is too thin for torch's bfloat16 on processors"
    return "float32", f"{why}; this processor does not compute in bfloat16"


def step_bytes(
    network: nn.Module,
    config: Mapping[str, Any],
    patch_size: Sequence[int],
    batch_size: int,
    device: torch.device = CPU,
) -> int:
    """Return the memory that a training step is expected to take, see :func:`precision_of`.

    Args:
        network: a segmentation network or a classifier.
        config: train.json with the profile laid over it.
        patch_size: voxels per axis.
        batch_size: patches per step.
        device: this machine's processor, or a GPU, which need not be there.
    """
    classifies = "min_size" in vars(network)
    return training_bytes(
        _Spread(network) if classifies else network,
        in_channels=config["in_channels"],
        patch_size=patch_size,
        batch_size=batch_size,
        amp=config["amp"],
        device=device,
    )


def network_knobs(
    definition: Mapping[str, Any],
    spacing: Sequence[float],
    median: Sequence[int],
    raw: Sequence[float],
    *,
    scaled: bool = False,
) -> tuple[list[int], list[Triple], dict[str, Any]]:
    """Return the patch that a network takes, its strides, and the profile entries that it gets.

    Args:
        definition: ``network_def`` of the bundle.
        spacing: mm per voxel.
        median: voxels of the median image.
        raw: voxels of the patch, which the network's divisors round.
        scaled: whether the network has the depth and the width that a GPU allows, or those of the bundle.

    Raises:
        ValueError: if it is no segmentation network of this package.
    """
    kind = locate(str(definition["_target_"]))
    if not isinstance(kind, type) or not issubclass(kind, Segmenter):
        raise ValueError(  # noqa: TRY004 - the bundle is wrong
            f"network_def must be a segmentation network of custom_networks.nets, got {definition['_target_']}; "
            "use a bundle that has one"
        )
    own: dict[str, Any] = {}
    least = Segmenter.least_voxels
    if scaled:
        least = kind.least_voxels
        most = math.inf if kind.most_steps is None else kind.most_steps
        own = kind.scaled_arguments(int(max(kind.fewest_steps, min(most, deepest(spacing, raw, least)))), definition)
    given = kind.steps_of({**definition, **own}, len(spacing))
    strides, kernels = down_sampling([max(step) for step in given], definition["kernel_size"], spacing, raw, least)
    patch = rounded_patch(raw, median, [math.prod(steps) for steps in zip(*strides, strict=True)])
    chosen = kind.step_arguments(strides, kernels)
    kernel_size = chosen.pop("kernel_size")
    own |= {} if strides == given else chosen
    if any(len(set(kernel)) > 1 for kernel in kernel_size):
        own["kernel_size"] = kernel_size
    own |= kind.patch_arguments(patch, {**definition, **own})
    return patch, strides, {f"network_def#{key}": value for key, value in own.items()}
