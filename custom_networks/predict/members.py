"""The networks that segment: a bundle, its profiles, and weights of their own; several are an ensemble."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from custom_networks.bundle_folder import METADATA, SUMS, changed_files, read_config, task_of, version_of
from custom_networks.files import checksum, read_json
from custom_networks.predict.commands import CROP, HEAD
from custom_networks.workflow.data.training_cases import RECORD
from custom_networks.workflow.guard.overrides import check_overrides

if TYPE_CHECKING:
    from monai.bundle import ConfigParser

logger = logging.getLogger(__name__)
WEIGHTS = "model.pt"
SAME = ("in_channels", "label_names", "label_values", "regions", "spacing", "intensity")
"""The knobs in which the members of an ensemble must agree: they see one image and name one set of classes."""
SAME_IN_HEADS = ("places", "crop_size", "template", "largest_component")
"""The same of whole heads, which are located, cropped and put together once for all members."""
NEEDED = (
    *("in_channels", "label_names", "spacing", "patch_size", "amp", "low_memory", "series", "device", "engine"),
    *("max_shape", "expected_input", "mirror_axes", "ckpt_path", "network", "inferer", "preprocessing"),
    *("postprocessing", "evaluator", "initialize"),
)
"""The entries of ``inference.json`` that are read here, or set."""
NEEDED_OF_HEADS = (
    *(
        "in_channels",
        "label_names",
        "head_label_names",
        "places",
        "spacing",
        "crop_size",
        "patch_size",
        "amp",
        "series",
    ),
    *("device", "engine", "mirror_axes", "ckpt_path", "network", "crop_inferer", "inferer", "preprocessing"),
    *("postprocessing", "evaluator", "initialize", "start_points"),
)
"""The same of ``inference_head.json``."""
CONFIGS = {CROP: "inference", HEAD: "inference_head"}
"""The config of each way."""
READER = "VolumeReader"
MASKS = {"Invertd": "that puts masks on the grid of the image", "SaveMasksd": "that writes them"}
"""What must read images and write masks, since the record of an image follows from both."""


@dataclass(frozen=True)
class Member:
    """A network with its weights.

    Args:
        bundle: the bundle's folder.
        profiles: override files, the later wins.
        checkpoint: weights in place of those that the configuration names.
    """

    bundle: Path
    profiles: tuple[Path, ...] = ()
    checkpoint: Path | None = None

    def config(self, overrides: Mapping[str, Any], way: str = CROP) -> ConfigParser:
        """Return the bundle's ``inference.json``, or ``inference_head.json``, under the profiles and these overrides.

        Args:
            overrides: values by the id path of an entry.
            way: :data:`CROP` or :data:`HEAD`.
        """
        parser = read_config(self.bundle, CONFIGS[way], self.profiles)
        if self.checkpoint is not None:
            parser["ckpt_path"] = str(self.checkpoint)
        for name, value in overrides.items():
            parser[name] = value
        return parser

    def weights(self) -> Path:
        """Return the file of the weights.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if they are not those that the bundle was packed with, and not of a training since.
        """
        path = Path(self.config({}).get_parsed_content("ckpt_path"))
        if not path.is_file():
            raise FileNotFoundError(
                f"there are no weights {path}; train them, or give others with --folds or ckpt_dir of a profile"
            )
        own = self.bundle / "models" / WEIGHTS
        packed = (self.bundle / SUMS).is_file() and path.resolve() == own.resolve()
        if packed and f"models/{WEIGHTS}" in changed_files(self.bundle) and not own.with_name(RECORD).is_file():
            raise ValueError(
                f"{path} are not the weights that {self.bundle.name} was packed with; get the bundle again, or give "
                "your own with --folds"
            )
        return path

    def described(self) -> dict[str, Any]:
        """Return what made a result, for its record."""
        weights = self.weights()
        return {
            "name": self.bundle.name,
            "title": str(read_json(self.bundle / METADATA).get("name", self.bundle.name)),
            "version": version_of(self.bundle),
            "profiles": [path.name for path in self.profiles],
            "weights": str(weights),
            "sha256": checksum(weights),
        }


def find_members(bundles: Sequence[Path], profiles: Sequence[Sequence[Path]], folds: Sequence[str]) -> list[Member]:
    """Return the members of an ensemble, or the one network.

    Args:
        bundles: folders of the bundles.
        profiles: override files of each.
        folds: weights of one bundle's network, each a file or a folder with ``model.pt``.

    Raises:
        FileNotFoundError: if weights are absent.
        ValueError: if a bundle does not segment or its config is none of this collection, a profile changes nothing
            that exists, weights are given for several bundles or twice, or the members see images or name classes
            differently.
    """
    for bundle, own in zip(bundles, profiles, strict=True):
        if task_of(bundle) != "segmentation":
            raise ValueError(
                f"{bundle.name} classifies and makes no masks; run its configs/inference.json with python -m "
                "monai.bundle run"
            )
        Member(bundle, tuple(own)).config({})  # whose errors name the file
        check_overrides(str(bundle), ["--args_file", str([str(path) for path in own])])
    if folds and len(bundles) > 1:
        raise ValueError(f"--folds are weights of one bundle, but {len(bundles)} are given; leave one of both out")
    if folds:
        members = [Member(bundles[0], tuple(profiles[0]), _checkpoint(fold)) for fold in folds]
    else:
        members = [Member(bundle, tuple(own)) for bundle, own in zip(bundles, profiles, strict=True)]
    if len(set(members)) < len(members):
        twice = next(member for member in members if members.count(member) > 1)
        raise ValueError(
            f"{twice.checkpoint or twice.bundle.name} is given twice; an ensemble counts each network once"
        )
    for member in members:
        check_config(member)
    check_agreement(members)
    return members


def _checkpoint(fold: str) -> Path:
    path = Path(fold)
    path = path / WEIGHTS if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"there are no weights {path}; give a checkpoint, or a folder that holds {WEIGHTS}")
    return path.resolve()


def check_config(member: Member, way: str = CROP) -> None:
    """Refuse a config that does other things than those of this collection, or does them without the weights.

    Args:
        member: the network.
        way: :data:`CROP` or :data:`HEAD`.

    Raises:
        ValueError: if it does.
    """
    parser = member.config({}, way)
    config = parser.get()
    absent = [f"no {name}" for name in (NEEDED if way == CROP else NEEDED_OF_HEADS) if name not in config]
    if not absent:
        transforms = [config[name].get("transforms") or [{}] for name in ("preprocessing", "postprocessing")]
        reader = transforms[0][0].get("reader")
        targets = [str(one.get("_target_")) for one in (reader if isinstance(reader, Mapping) else {}, *transforms[1])]
        absent += [f"no {READER} that reads the images"] * (not targets[0].endswith(READER))
        for name, what in MASKS.items():
            absent += [f"no {name} {what}"] * (not any(target.endswith(name) for target in targets[1:]))
    if absent:
        raise ValueError(
            f"the configs/{CONFIGS[way]}.json of {member.bundle.name} has {absent[0]}, which predict needs; run it "
            "with python -m monai.bundle run, or give a bundle of this collection"
        )
    if parser.get_parsed_content("load_pretrain", default=True) is not True:
        raise ValueError(
            f"load_pretrain is false for {member.bundle.name}, so that its network would have random weights; leave it "
            "out of the profile"
        )


def check_agreement(members: Sequence[Member], way: str = CROP) -> None:
    """Refuse members that see images or name classes differently.

    Args:
        members: the networks of an ensemble.
        way: :data:`CROP` or :data:`HEAD`.

    Raises:
        ValueError: if they do.
    """
    first = members[0].config({}, way)
    for member in members[1:]:
        other = member.config({}, way)
        if first["preprocessing"] != other["preprocessing"]:
            raise ValueError(
                f"{members[0].bundle.name} and {member.bundle.name} are no ensemble, they differ in preprocessing; "
                "give networks of one recipe"
            )
        for knob in SAME if way == CROP else (*SAME, *SAME_IN_HEADS):
            values = [parser.get_parsed_content(knob, default=None) for parser in (first, other)]
            if values[0] != values[1]:
                raise ValueError(
                    f"{members[0].bundle.name} and {member.bundle.name} are no ensemble, their {knob} is {values[0]} "
                    f"and {values[1]}; give networks of one training set"
                )
