"""Segment images: those of this process, one that fails leaving the others alone, with a record of each."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from custom_networks.bundle_folder import METADATA
from custom_networks.command_line import sentence
from custom_networks.files import read_json, replacing
from custom_networks.predict.commands import HEAD, Options
from custom_networks.predict.inputs import find_images
from custom_networks.predict.members import Member, find_members
from custom_networks.predict.pipeline import Done, run_stages
from custom_networks.predict.results import (
    check_own,
    check_tables,
    checksums_of,
    earlier_record,
    files_beside,
    inputs_of,
    record_file,
    sources_of,
    write_record,
)
from custom_networks.predict.segmenter import Read, Segmenter
from custom_networks.predict.shards import wait_for_others
from custom_networks.predict.terminal import Lines
from custom_networks.predict.ways import CropWay, Ways
from custom_networks.workflow.data.cases import files_of
from custom_networks.workflow.guard.interrupts import sigterm_as_ctrl_c
from custom_networks.workflow.guard.outputs import check_outputs
from custom_networks.workflow.infer.dicom_seg import MadeBy
from custom_networks.workflow.infer.mask_formats import FORMATS, Mask, check_mask_as, save_mask_as
from custom_networks.workflow.infer.masks import check_replaceable
from custom_networks.workflow.report.volumes import write_volumes

logger = logging.getLogger(__name__)
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
        self.made_by = MadeBy(
            *(" + ".join(one[key] for one in self.described) for key in ("name", "version", "sha256"))
        )
        self.ways = Ways(self.members, options, self.described)
        self.config = self.ways.crop.config
        self.way_of: dict[str, CropWay] = {}

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
                self.way_of[case["mask"]] = way = self.ways.of(case)
                inputs[case["mask"]] = inputs_of(case, way.method)
            except (OSError, ValueError) as error:
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
        stages = (self._read, self._forward, self._write)
        for done in run_stages(to_do, *stages, jobs=self.options.jobs, alone=self._needs_all):
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

    def _needs_all(self, case: Mapping[str, Any]) -> bool:
        try:
            return self.way_of[case["mask"]].plan.needs_all(case)
        except (ValueError, OSError):  # is said when it is read
            return False

    def _read(self, case: Mapping[str, Any]) -> tuple[Segmenter, Read]:
        check_replaceable(self.options.result / case["mask"])
        check_own(self.options.result, case, self.options.series, self.options.overwrite)
        if self.options.output_format != NIFTI:
            check_mask_as(self.options.output_format, self._stem(case), files_of(case["image"])[0])
        way = self.way_of[case["mask"]]
        segmenter = way.segmenter(way.plan.is_low(case))
        read = segmenter.read(case)
        way.say_size(case, read)
        return segmenter, read

    def _stem(self, case: Mapping[str, Any]) -> Path:
        """Return the file of a mask without its suffix."""
        return self.options.result / str(case["mask"]).removesuffix(FORMATS[NIFTI].suffix)

    def _forward(self, case: Mapping[str, Any], content: tuple[Segmenter, Read]) -> tuple[Segmenter, Read, Any]:
        segmenter, read = content
        try:
            return segmenter, read, segmenter.forward(read)
        except ValueError as error:
            if self.options.way is not None or self.way_of[case["mask"]].name != HEAD:
                raise
            said = sentence(error)
        raise ValueError(f"{said}; it is taken for a whole head for its size, --crop takes it for a crop")

    def _write(self, case: Mapping[str, Any], content: tuple[Segmenter, Read, Any]) -> dict[str, Any]:
        """Write the files of an image and return the part of its record that follows from them."""
        segmenter, read, result = content
        way = self.way_of[case["mask"]]
        earlier = files_beside(self.options.result, case["mask"])
        record_file(self.options.result, case["mask"]).unlink(missing_ok=True)  # is of an earlier mask
        voxels, probabilities = segmenter.write(result[:2])
        files = []
        if probabilities is not None:
            files.append(_save_probabilities(self.options.result, case, probabilities, read, way.label_names))
        if self.options.output_format != NIFTI:
            mask = Mask(voxels, read.affine, files_of(case["image"])[0], self.options.series, way.coded, self.made_by)
            written = save_mask_as(self.options.output_format, self._stem(case), mask)
            files.append(written.relative_to(self.options.result).as_posix())
        for file in earlier:  # such as probabilities of another network
            if file.relative_to(self.options.result).as_posix() not in files:
                file.unlink(missing_ok=True)
        checksums = checksums_of(self.options.result, [case["mask"], *files])
        measured = way.measure(voxels, read.affine, result[2])
        computed = segmenter.computed()
        return {"read": read, "measured": measured, "files": files, "checksums": checksums, "computed": computed}

    def _record(self, done: Done, inputs: str) -> dict[str, Any]:
        case, read = done.item, done.value["read"]
        record: dict[str, Any] = {
            "format": 1,
            "case": case["case"],
            "image": sources_of(case),
            "series": self.options.series,
            "mask": case["mask"],
            "files": done.value["files"],
            "checksums": done.value["checksums"],
            "grid": {
                "shape": list(read.shape),
                "spacing": [float(size) for size in np.linalg.norm(read.affine[:3, :3], axis=0)],
                "affine": read.affine.tolist(),
            },
            "working_spacing": list(self.config.get_parsed_content("spacing")),
            **done.value["computed"],
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "bundles": self.described,
            "seconds": {stage: round(seconds, 3) for stage, seconds in done.seconds.items()},
            "inputs": inputs,
            **done.value["measured"],
            "warnings": [{"kind": "header", "structure": None, "text": _of_archive(case, note)} for note in read.notes],
        }
        record["warnings"] += self.way_of[case["mask"]].warnings(record, read.facts)
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
    if options.report and find_spec("jinja2") is None:
        raise ModuleNotFoundError("No module named 'jinja2'", name="jinja2")
    work = Run(find_members(bundles, profiles, folds), options)
    check_tables(options.result)
    channels = work.config.get_parsed_content("in_channels")
    found = find_images(inputs, series=options.series, in_channels=channels)
    with only_warnings(), sigterm_as_ctrl_c(), found as (cases, problems):
        if options.start_points is not None and len(cases) > 1:
            raise ValueError(f"--start-points are those of one image, but {len(cases)} are given; give one at a time")
        segment(work, cases, problems)


def segment(work: Run, cases: Sequence[Mapping[str, Any]], problems: Sequence[tuple[str, str]] = ()) -> None:
    """Segment images, say what became of each, and write the tables of all.

    Args:
        work: the networks and what was asked for.
        cases: entries as those of :func:`custom_networks.predict.inputs.find_images`.
        problems: inputs that cannot be used, and why.

    Raises:
        ValueError: if an image could not be segmented.
    """
    options = work.options
    lines = Lines(options.json, options.strict)
    mine = options.shard.share(cases)
    unusable = problems if options.shard.number == 1 else []
    of = len(unusable) + len(mine)
    for number, (given, why) in enumerate(unusable, start=1):
        lines.fail(given, why, number, of)
    try:
        for number, (case, status, content) in enumerate(work.run(mine), start=len(unusable) + 1):
            if status == "failed":
                lines.fail(case["case"], _of_archive(case, sentence(content)), number, of)
            else:
                lines.show(content, status, options.result, number, of)
    finally:
        if lines.shown:
            _write_tables(work, lines)
    if options.shard.launched:
        wait_for_others()
    if options.report and lines.shown and not lines.tables and options.shard.number == 1:
        from custom_networks.workflow.report.page.write import write_report

        unpacked = {
            case["case"]: [str(path) for path in files_of(case["image"])] for case in cases if "archive" in case
        }
        try:
            lines.say_page(write_report(options.result, show_names=options.show_names, unpacked=unpacked))
        except Exception as error:
            lines.fail_tables("report.html", sentence(error))
    lines.end(options.result)


def _write_tables(work: Run, lines: Lines) -> None:
    """Write the tables of all images, or note why that cannot be done, and say if not all are of the same networks."""
    result = work.options.result
    try:
        records = write_volumes(result, _header(work))
    except (OSError, ValueError) as error:
        lines.fail_tables("volumes.csv", sentence(error))
        return
    own = [made["sha256"] for made in work.described]
    if others := sum([made["sha256"] for made in record["bundles"]] != own for record in records):
        logger.warning(
            "%d of the %d images of %s were segmented by other networks than this, see bundle and weights_sha256 in "
            "volumes.csv; give each network a folder of its own",
            others,
            len(records),
            result,
        )


def _of_archive(case: Mapping[str, Any], text: str) -> str:
    """Return a text in which an image is called by its zip, not by the temporary folder where it is unpacked."""
    if "archive" in case:
        for path in files_of(case["image"]):
            text = text.replace(str(path if path.is_dir() else path.parent), str(case["archive"]))
    return text


def _header(work: Run) -> dict[str, Any]:
    bundle = work.members[0].bundle
    heads = [way.label_names for way in work.way_of.values() if way.name == HEAD]
    of_heads = {"head_label_names": heads[0]} if heads else {}
    return {
        "bundles": work.described,
        "label_names": work.ways.crop.label_names,
        **of_heads,
        "intended_use": str(read_json(bundle / METADATA).get("intended_use", "")),
    }


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


@contextmanager
def only_warnings() -> Iterator[None]:
    """Let logged warnings through to standard error, what is left out of folders and what an engine does.

    What is in a record is not said twice.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    levels = {"data.inference_list": logging.INFO, "infer.engines": logging.INFO, "data.image_checks": logging.ERROR}
    levels["locate"] = logging.ERROR
    loggers = {logging.getLogger(f"custom_networks.workflow.{name}"): level for name, level in levels.items()}
    before = {own: own.level for own in loggers}
    for own, level in loggers.items():
        own.setLevel(level)
    try:
        yield
    finally:
        for own, level in before.items():
            own.setLevel(level)
