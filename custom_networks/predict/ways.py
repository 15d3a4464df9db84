"""The two ways to segment an image: as a crop, by ``inference.json``, or as a head, by ``inference_head.json``."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from custom_networks.bundle_folder import METADATA, read_config
from custom_networks.failures import on_one_line
from custom_networks.files import checksum, read_json
from custom_networks.predict.commands import CROP, HEAD, Options
from custom_networks.predict.members import CONFIGS, Member, check_agreement, check_config
from custom_networks.predict.memory_plan import HeadPlan, MemoryPlan
from custom_networks.predict.results import method_of
from custom_networks.predict.segmenter import Read, Segmenter
from custom_networks.workflow.data.headers import at_spacing, shapes_of
from custom_networks.workflow.data.image_checks import size_problem
from custom_networks.workflow.infer.structures import of_places, with_codes
from custom_networks.workflow.locate.template import template_file
from custom_networks.workflow.report.head_facts import describe_head, structures_of_head
from custom_networks.workflow.report.plausibility import find_head_warnings, find_warnings
from custom_networks.workflow.report.training_data import read_training_data
from custom_networks.workflow.report.volumes import measure, structures_of

logger = logging.getLogger(__name__)
DECISIVE = ("in_channels", "label_names", "regions", "spacing", "max_shape")
"""The knobs by which a profile makes a network of another data set, whose large images are no heads."""


class CropWay:
    """Segment images as ``inference.json`` does.

    Args:
        members: the networks.
        options: what was asked for.
        described: of each member, see :meth:`custom_networks.predict.members.Member.described`.
    """

    name = CROP

    def __init__(self, members: Sequence[Member], options: Options, described: Sequence[Mapping[str, Any]]) -> None:
        self.members, self.options = list(members), options
        self.config = members[0].config({}, self.name)
        self._read_labels()
        self.overrides = self._overrides()
        configs = [member.config(self.overrides, self.name).get() for member in members]
        self.known = read_training_data(members[0].weights())
        asked = {"format": options.output_format, "probabilities": options.probabilities, "memory": options.memory}
        asked |= {"known": self.known, **self._files()}
        self.method = method_of(configs, [one["sha256"] for one in described], asked)
        self.segmenters: dict[bool, Segmenter] = {}

    def _read_labels(self) -> None:
        """Set the classes of the masks, and what is measured in them."""
        names = ("label_names", "label_values", "regions")
        labels = {name: self.config.get_parsed_content(name, default=None) for name in names}
        self.label_names: list[str] = labels["label_names"]
        self.structures = structures_of(**labels)
        metadata = read_json(self.members[0].bundle / METADATA)
        self.coded = with_codes([structure._asdict() for structure in self.structures], metadata)
        self.max_shape, self.expected = (self.config.get_parsed_content(n) for n in ("max_shape", "expected_input"))

    def _files(self) -> dict[str, str]:
        """Return the checksums of the files beside the weights that decide a mask."""
        return {}

    def _overrides(self) -> dict[str, Any]:
        """Return the knobs that the options set."""
        options = self.options
        knobs: dict[str, Any] = {"output_dir": str(options.result), "dataset_dir": str(options.result)}
        if options.series is not None:
            knobs["series"] = options.series
        if options.engine is not None:
            knobs["engine"] = options.engine
        if device := _device(options):
            knobs["device"] = device
        if options.tta:
            knobs["tta_mirror_axes"] = self._flips()
        return knobs

    def _flips(self) -> list[int]:
        """Return the axes that all networks were trained to be flipped along."""
        first: list[int] = []
        for member in self.members:
            axes = list(read_config(member.bundle, "train", member.profiles).get_parsed_content("mirror_axes") or [])
            if not axes or axes != (first := first or axes):
                raise ValueError(
                    f"{member.bundle.name} was trained without {'these ' if axes else ''}flips, its mirror_axes is "
                    f"{axes}; leave --tta out, or give the profile that names them"
                )
        return first

    @cached_property
    def plan(self) -> MemoryPlan | HeadPlan:
        """What decides about memory, made before the first image is read."""
        return MemoryPlan(self.segmenter(False), self.options.memory)

    def segmenter(self, low_memory: bool) -> Segmenter:
        """Return what segments, built when it is first asked for.

        Args:
            low_memory: whether to set the knob of that name.
        """
        if low_memory not in self.segmenters:
            knobs = {**self.overrides, **({"low_memory": True} if low_memory else {})}
            if self.options.probabilities:
                if low_memory or self.config.get_parsed_content("low_memory"):
                    raise ValueError(
                        "low_memory makes no probabilities; leave --probabilities out, give more --memory, or leave "
                        "low_memory out of the profile"
                    )
                knobs["postprocessing#transforms"] = _with_copy(self.config["postprocessing#transforms"])
            self.segmenters[low_memory] = Segmenter(self.members, knobs, way=self.name)
        return self.segmenters[low_memory]

    def say_size(self, case: Mapping[str, Any], read: Read) -> None:
        """Say that an image is so large that it takes long.

        Args:
            case: the image.
            read: what was read of it.
        """
        shape = at_spacing(read.facts["shape"], read.facts["spacing"], self.config.get_parsed_content("spacing"))
        if self.max_shape and size_problem(shape, self.max_shape, self.expected):
            logger.warning(
                "%s has %s voxels for a network that is trained on %s at most: this takes long, --profile large_volume "
                "takes a fraction of it",
                case["case"],
                shape,
                tuple(self.max_shape),
            )

    def measure(self, voxels: np.ndarray, affine: np.ndarray, found: Any) -> dict[str, Any]:
        """Return the entries of a record that follow from a mask.

        Args:
            voxels: the mask.
            affine: its voxels to mm.
            found: what the inferer has found beside it.
        """
        return {"structures": measure(voxels, affine, self.structures)}

    def warnings(self, record: Mapping[str, Any], facts: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return what a person should know before the volumes are used.

        Args:
            record: of the image.
            facts: of the image.
        """
        return find_warnings(record, facts, self.known, self.max_shape, self.expected)


class HeadWay(CropWay):
    """Segment whole heads as ``inference_head.json`` does.

    Args:
        members: the networks.
        options: what was asked for.
        described: of each member.

    Raises:
        ValueError: if a bundle has none, or one that does other things, or probabilities are asked for.
    """

    name = HEAD

    def __init__(self, members: Sequence[Member], options: Options, described: Sequence[Mapping[str, Any]]) -> None:
        if options.probabilities:
            raise ValueError(
                "the probabilities of a head are not kept, only those of a crop; leave --probabilities out"
            )
        for member in members:
            if not has_head_way(member):
                raise ValueError(
                    f"{member.bundle.name} has no configs/inference_head.json, which says where to look in a head; "
                    "give a crop, and leave --head and --start-points out"
                )
            check_config(member, HEAD)
        check_agreement(members, HEAD)
        super().__init__(members, options, described)

    def _read_labels(self) -> None:
        if self.config.get_parsed_content("regions", default=None) is not None:
            raise ValueError(
                "the classes of a profile with regions overlap, which the mask of a head cannot hold; give crops"
            )
        self.places = self.config.get_parsed_content("places")
        self.classes = self.config.get_parsed_content("label_names")
        self.label_names = self.config.get_parsed_content("head_label_names")
        self.structures = structures_of_head(self.places, self.label_names, self.classes)
        metadata = read_json(self.members[0].bundle / METADATA)
        of_mask = [structure._asdict() for structure in structures_of(self.label_names)]
        self.coded = with_codes(of_mask, of_places(metadata, self.places, self.classes))

    def _files(self) -> dict[str, str]:
        return {"template": checksum(template_file(self.config.get_parsed_content("template", default=None)))}

    def _overrides(self) -> dict[str, Any]:
        knobs = super()._overrides()
        if self.options.start_points is not None:
            knobs["start_points"] = self.options.start_points
        return knobs

    @cached_property
    def plan(self) -> MemoryPlan | HeadPlan:
        """What decides about memory: there is one path only."""
        return HeadPlan(self.segmenter(False), self.options.memory)

    def segmenter(self, low_memory: bool) -> Segmenter:
        """Return what segments, built when it is first asked for.

        Args:
            low_memory: is never asked for.
        """
        if False not in self.segmenters:
            self.segmenters[False] = Segmenter(self.members, self.overrides, way=self.name)
        return self.segmenters[False]

    def say_size(self, case: Mapping[str, Any], read: Read) -> None:
        """Say nothing: a head is large.

        Args:
            case: the image.
            read: what was read of it.
        """

    def measure(self, voxels: np.ndarray, affine: np.ndarray, found: Any) -> dict[str, Any]:
        """Return the entries of a record that follow from a mask and a registration.

        Args:
            voxels: the mask.
            affine: its voxels to mm.
            found: :class:`custom_networks.workflow.locate.head_inferer.Found`.
        """
        structures = measure(voxels, affine, self.structures)
        return {"structures": structures, "head": describe_head(found, structures, self.places)}

    def warnings(self, record: Mapping[str, Any], facts: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return what a person should know before the volumes are used.

        Args:
            record: of the image.
            facts: of the image.
        """
        return find_head_warnings(record, facts, self.known, self.places, self.classes)


class Ways:
    """Which way an image takes.

    Args:
        members: the networks.
        options: what was asked for.
        described: of each member.
    """

    def __init__(self, members: Sequence[Member], options: Options, described: Sequence[Mapping[str, Any]]) -> None:
        self.arguments = (members, options, described)
        self.asked = options.way
        self.crop = CropWay(*self.arguments)
        if self.asked == HEAD:
            self.head  # noqa: B018 - whose errors are said before any image is looked at
        self.chooses = self.asked is None and all(has_head_way(member) and _is_own(member) for member in members)

    @cached_property
    def head(self) -> HeadWay:
        """The way of a head, made when it is first asked for."""
        return HeadWay(*self.arguments)

    def of(self, case: Mapping[str, Any]) -> CropWay:
        """Return the way of an image, by its header.

        Args:
            case: the image.

        Raises:
            OSError: if the header cannot be read.
            ValueError: if it cannot be read.
        """
        if self.asked == HEAD:
            return self.head
        if self.chooses and self.crop.max_shape:
            spacing, series = self.crop.config.get_parsed_content("spacing"), self.arguments[1].series
            shape = shapes_of(case["image"], spacing, series)[1]
            if size_problem(shape, self.crop.max_shape, self.crop.expected):
                return self.head
        return self.crop


def has_head_way(member: Member) -> bool:
    """Return whether a bundle says where to look in a head.

    Args:
        member: the network of a bundle.
    """
    return (member.bundle / "configs" / f"{CONFIGS[HEAD]}.json").is_file()


def _is_own(member: Member) -> bool:
    """Return whether a network is for what its bundle is for, whatever its profiles change beside."""
    asked, own = member.config({}), read_config(member.bundle, CONFIGS[CROP])
    return all(asked.get(knob) == own.get(knob) for knob in DECISIVE)


def _device(options: Options) -> torch.device | None:
    if options.device is None:
        if options.shard.launched and torch.cuda.is_available():
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        return None
    try:
        device = torch.device(options.device)
        torch.ones(1, device=device).item()  # which meta, a device without values, does not have
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"--device {options.device} cannot be used ({on_one_line(error)}); give cpu, or leave it out"
        ) from error
    return device


def _with_copy(transforms: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the postprocessing with a copy of the probabilities kept as soon as they are on the file's grid."""
    behind = next(n for n, one in enumerate(transforms, start=1) if str(one["_target_"]).endswith("Invertd"))
    copy = {"_target_": "CopyItemsd", "keys": "pred", "names": "probabilities"}
    return [*map(dict, transforms[:behind]), copy, *map(dict, transforms[behind:])]
