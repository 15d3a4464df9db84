"""Segment images: those of this process, one that fails leaving the others alone, with a record of each."""

from __future__ import annotations

import datetime
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from custom_networks.bundle_folder import METADATA, read_config
from custom_networks.command_line import sentence
from custom_networks.files import read_json, replacing
from custom_networks.predict.commands import Options
from custom_networks.predict.inputs import find_images
from custom_networks.predict.members import Member, find_members
from custom_networks.predict.memory_plan import MemoryPlan
from custom_networks.predict.pipeline import Done, run_stages
from custom_networks.predict.results import earlier_record, inputs_of, method_of, record_file, write_record
from custom_networks.predict.segmenter import Read, Segmenter
from custom_networks.predict.shards import wait_for_others
from custom_networks.predict.terminal import Lines
from custom_networks.workflow.data.cases import files_of
from custom_networks.workflow.guard.outputs import check_outputs
from custom_networks.workflow.infer.dicom_seg import MadeBy
from custom_networks.workflow.infer.mask_formats import FORMATS, Mask, check_mask_as, save_mask_as
from custom_networks.workflow.infer.masks import check_replaceable
from custom_networks.workflow.infer.structures import with_codes
from custom_networks.workflow.report.plausibility import find_warnings
from custom_networks.workflow.report.training_data import read_training_data
from custom_networks.workflow.report.volumes import measure, structures_of, write_volumes

NIFTI = "nifti"
"""The format that inference.json itself writes."""


class Run:
    """The images of one call, with all that is the same for them.

    Args:
        members: the networks.
        options: what was asked for.
    """

    def __init__(self, members: Sequence[Member], options: Options) -> None:
        self.members, self.options = list(members), options
        self.described = [member.described() for member in members]
        self.config = members[0].config({})
        names = ("label_names", "label_values", "regions")
        self.labels = {name: self.config.get_parsed_content(name, default=None) for name in names}
        self.structures = structures_of(**self.labels)
        metadata = read_json(members[0].bundle / METADATA)
        self.coded = with_codes([structure._asdict() for structure in self.structures], metadata)
        self.made_by = MadeBy(
            *(" + ".join(one[key] for one in self.described) for key in ("name", "version", "sha256"))
        )
        self.max_shape, self.expected = (self.config.get_parsed_content(n) for n in ("max_shape", "expected_input"))
        self.overrides = self._overrides()
        configs = [member.config(self.overrides).get() for member in members]
        self.known = read_training_data(members[0].weights())
        asked = {"format": options.output_format, "probabilities": options.probabilities, "known": self.known}
        self.method = method_of(configs, [one["sha256"] for one in self.described], asked)
        self.segmenters: dict[bool, Segmenter] = {}
        self.plan: MemoryPlan | None = None

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
            knobs["mirror_axes"] = self._flips()
        return knobs

    def _flips(self) -> list[int]:
        """Return the axes that the network was trained to be flipped along."""
        member = self.members[0]
        axes = read_config(member.bundle, "train", member.profiles).get_parsed_content("mirror_axes")
        if not axes:
            raise ValueError(
                f"{member.bundle.name} was trained without flips, its mirror_axes is []; leave --tta out, or give the "
                "profile that names them"
            )
        return list(axes)

    def segmenter(self, low_memory: bool) -> Segmenter:
        """Return what segments, built when it is first asked for.

        Args:
            low_memory: whether to set the knob of that name.
        """
        if low_memory not in self.segmenters:
            knobs = {**self.overrides, **({"low_memory": True} if low_memory else {})}
            if self.options.probabilities:
                if low_memory:
                    raise ValueError(
                        "the probabilities do not fit into the memory; leave --probabilities out, or give more --memory"
                    )
                knobs["postprocessing#transforms"] = _with_copy(self.config["postprocessing#transforms"])
            self.segmenters[low_memory] = Segmenter(self.members, knobs)
        return self.segmenters[low_memory]

    def run(self, cases: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], str, Any]]:
        """Segment images and yield, in their order, each with what became of it.

        Args:
            cases: the images.

        Yields:
            The image; "skipped" or "written" with its record, or "failed" with the exception.
        """
        inputs: dict[str, str] = {}
        to_do = []
        for case in cases:
            try:
                inputs[case["mask"]] = inputs_of(case, self.method)
            except OSError as error:
                yield case, "failed", error
                continue
            record = earlier_record(self.options.result, case, inputs[case["mask"]])
            if record is not None and not self.options.overwrite:
                yield case, "skipped", record
                continue
            to_do.append(case)
        if not to_do:
            return
        check_outputs(self.options.result)
        self.plan = MemoryPlan(self.segmenter(False), self.options.memory)
        stages = (self._read, self._forward, self._write)
        for done in run_stages(to_do, *stages, jobs=self.options.jobs, alone=self.plan.needs_all):
            if done.error is not None:
                yield done.item, "failed", done.error
                continue
            try:
                record = self._record(done, inputs[done.item["mask"]])
                write_record(self.options.result, record)
            except Exception as error:
                yield done.item, "failed", error
            else:
                yield done.item, "written", record

    def _read(self, case: Mapping[str, Any]) -> tuple[Segmenter, Read]:
        assert self.plan is not None
        check_replaceable(self.options.result / case["mask"])
        if self.options.output_format != NIFTI:
            check_mask_as(self.options.output_format, self._stem(case), files_of(case["image"])[0])
        segmenter = self.segmenter(self.plan.is_low(case))
        return segmenter, segmenter.read(case)

    def _stem(self, case: Mapping[str, Any]) -> Path:
        """Return the file of a mask without its suffix."""
        return self.options.result / str(case["mask"]).removesuffix(FORMATS[NIFTI].suffix)

    def _forward(self, case: Mapping[str, Any], content: tuple[Segmenter, Read]) -> tuple[Segmenter, Read, Any]:
        segmenter, read = content
        return segmenter, read, segmenter.forward(read)

    def _write(self, case: Mapping[str, Any], content: tuple[Segmenter, Read, Any]) -> dict[str, Any]:
        """Write the files of an image and return the part of its record that follows from them."""
        segmenter, read, result = content
        record_file(self.options.result, case["mask"]).unlink(missing_ok=True)  # is of an earlier mask
        voxels, probabilities = segmenter.write(result)
        files = []
        if probabilities is not None:
            names = self.labels["label_names"]
            files.append(_save_probabilities(self.options.result, case, probabilities, read, names))
        if self.options.output_format != NIFTI:
            mask = Mask(voxels, read.affine, files_of(case["image"])[0], self.options.series, self.coded, self.made_by)
            written = save_mask_as(self.options.output_format, self._stem(case), mask)
            files.append(written.relative_to(self.options.result).as_posix())
        structures = measure(voxels, read.affine, self.structures)
        return {"read": read, "structures": structures, "files": files, "computed": segmenter.computed()}

    def _record(self, done: Done, inputs: str) -> dict[str, Any]:
        case, read = done.item, done.value["read"]
        archive = case.get("archive")
        record: dict[str, Any] = {
            "format": 1,
            "case": case["case"],
            "image": [os.path.abspath(path) for path in ([archive] if archive else files_of(case["image"]))],  # noqa: PTH100 - links stay
            "series": self.options.series,
            "mask": case["mask"],
            "files": done.value["files"],
            "grid": {
                "shape": list(read.shape),
                "spacing": [float(size) for size in np.linalg.norm(read.affine[:3, :3], axis=0)],
                "affine": read.affine.tolist(),
            },
            "working_spacing": list(self.config.get_parsed_content("spacing")),
            **done.value["computed"],
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "bundles": self.described,
            "seconds": {stage: round(seconds, 3) for stage, seconds in done.seconds.items()},
            "inputs": inputs,
            "structures": done.value["structures"],
            "warnings": [{"kind": "header", "structure": None, "text": note} for note in read.notes],
        }
        record["warnings"] += find_warnings(record, read.facts, self.known, self.max_shape, self.expected)
        return record


def run(
    inputs: Sequence[str],
    bundles: Sequence[Path],
    profiles: Sequence[Sequence[Path]],
    folds: Sequence[str],
    options: Options,
) -> None:
    """Segment what the command was given.

    Args:
        inputs: images, folders, zips.
        bundles: folders of the bundles.
        profiles: override files of each.
        folds: weights in place of a bundle's own.
        options: the other arguments.

    Raises:
        FileNotFoundError: if the weights, or all inputs, are absent.
        ValueError: if an argument does not fit, or an image could not be segmented.
    """
    _only_warnings()
    if options.report and find_spec("jinja2") is None:
        raise ModuleNotFoundError("No module named 'jinja2'", name="jinja2")
    work = Run(find_members(bundles, profiles, folds), options)
    channels = work.config.get_parsed_content("in_channels")
    with find_images(inputs, series=options.series, in_channels=channels) as (cases, problems):
        lines = Lines(options.json, options.strict)
        mine = options.shard.share(cases)
        if options.shard.number == 1:
            for given, why in problems:
                lines.fail(given, why)
        try:
            for number, (case, status, content) in enumerate(work.run(mine), start=1):
                if status == "failed":
                    lines.fail(case["case"], sentence(content), number, len(mine))
                else:
                    lines.show(content, status, options.result, number, len(mine))
        finally:
            if lines.shown:
                write_volumes(options.result, _header(work))
        if options.shard.launched:
            wait_for_others()
        if options.report and lines.shown and options.shard.number == 1:
            from custom_networks.workflow.report.page.write import write_report

            unpacked = {
                case["case"]: [str(path) for path in files_of(case["image"])] for case in cases if "archive" in case
            }
            lines.say_page(write_report(options.result, show_names=options.show_names, unpacked=unpacked))
    lines.end(options.result)


def _header(work: Run) -> dict[str, Any]:
    bundle = work.members[0].bundle
    return {
        "bundles": work.described,
        "label_names": work.labels["label_names"],
        "intended_use": str(read_json(bundle / METADATA).get("intended_use", "")),
    }


def _device(options: Options) -> torch.device | None:
    if options.device is None:
        if options.shard.launched and torch.cuda.is_available():
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        return None
    try:
        device = torch.device(options.device)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {options.device} cannot be used ({error}); give cpu, or leave it out") from error
    return device


def _with_copy(transforms: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the postprocessing with a copy of the probabilities kept as soon as they are on the file's grid."""
    names = [str(transform["_target_"]) for transform in transforms]
    behind = names.index("Invertd") + 1
    copy = {"_target_": "CopyItemsd", "keys": "pred", "names": "probabilities"}
    return [*map(dict, transforms[:behind]), copy, *map(dict, transforms[behind:])]


def _save_probabilities(
    result: Path, case: Mapping[str, Any], probabilities: Any, read: Read, label_names: Sequence[str]
) -> str:
    """Write the probabilities of an image and return their file name."""
    name = f"{str(record_file(Path(), case['mask'])).removesuffix('_seg.json')}_probabilities.npz"
    values = torch.as_tensor(probabilities).cpu().numpy().astype(np.float16)
    names = label_names if len(label_names) == len(values) else label_names[1:]
    with replacing(result / name) as partial:
        np.savez_compressed(partial, probabilities=values, label_names=np.array(names), affine=read.affine)
    return name


def _only_warnings() -> None:
    """Let logged warnings through to standard error, but for those that are in the record of the image."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("custom_networks.workflow.data.image_checks").setLevel(logging.ERROR)
