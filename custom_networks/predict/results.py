"""What a result is made from, so that it is made again only when that has changed, and its record."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_networks import __version__
from custom_networks.files import checksum, write_text
from custom_networks.workflow.data.cases import files_of, voxel_file
from custom_networks.workflow.report.volumes import COLUMNS, RECORD_SUFFIX, read_record

FORMAT = 1
NO_MATTER = ("bundle_root", "dataset_dir", "output_dir", "ckpt_dir", "ckpt_path", "device", "num_workers")
"""Entries of a config that change no voxel of a mask; weights count by their content."""


def method_of(configs: Sequence[Mapping[str, Any]], weights: Sequence[str], options: Mapping[str, Any]) -> str:
    """Return the checksum of all that decides a mask but the image.

    Args:
        configs: the content of the members' configs.
        weights: checksums of their weights.
        options: options beside the configs.
    """
    content = [{name: value for name, value in config.items() if name not in NO_MATTER} for config in configs]
    return _digest([__version__, FORMAT, content, sorted(weights), dict(options)])


def inputs_of(case: Mapping[str, Any], method: str) -> str:
    """Return the checksum of all that decides the mask of an image.

    Args:
        case: the image.
        method: what :func:`method_of` returned.

    Raises:
        OSError: if a file cannot be read.
        ValueError: if a name cannot be written down.
    """
    try:
        "".join([case["mask"], *sources_of(case)]).encode()
    except UnicodeEncodeError as error:
        raise ValueError("the name of the image or of a folder above it is not UTF-8; rename it") from error
    files = []
    for path in files_of(case["image"]):
        # a folder is that of a DICOM series: names do not matter, and folders in it are images of their own
        own = list(path.iterdir()) if path.is_dir() else [path, voxel_file(path)]
        files += sorted(checksum(file) for file in dict.fromkeys(own) if file.is_file() or file == path)
    return _digest([method, files, case["mask"]])


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def record_file(result: Path, mask: str) -> Path:
    """Return where the record of an image lies, beside its mask.

    Args:
        result: the folder of the results.
        mask: the mask's file name in it.
    """
    stem = mask.removesuffix(".nii.gz").removesuffix(RECORD_SUFFIX.removesuffix(".json"))
    return result / f"{stem}{RECORD_SUFFIX}"


def earlier_record(result: Path, case: Mapping[str, Any], inputs: str) -> dict[str, Any] | None:
    """Return the record of an earlier call if all its files are there and nothing that decides them has changed.

    Args:
        result: the folder of the results.
        case: the image.
        inputs: what :func:`inputs_of` returned.
    """
    try:
        record = read_record(record_file(result, case["mask"]))
    except (ValueError, OSError):  # is written anew
        return None
    if (record.get("inputs"), record["case"], record["mask"]) != (inputs, case["case"], case["mask"]):
        return None
    # another run, or another program, may have written a mask over that which was measured
    written = record.get("checksums")
    try:
        return record if written and written == checksums_of(result, [case["mask"], *written]) else None
    except (OSError, TypeError):  # one is absent
        return None


def checksums_of(result: Path, files: Iterable[str]) -> dict[str, str]:
    """Return the checksums of the files of an image.

    Args:
        result: the folder of the results.
        files: their names in it.
    """
    return {name: checksum(result / name) for name in files}


def check_own(result: Path, case: Mapping[str, Any], series: str | None, overwrite: bool) -> None:
    """Refuse to write the results of an image over a file of somebody else, or over those of another image.

    Args:
        result: the folder of the results.
        case: the image; a mask that exists is known to be of this program, and so is the file beside it.
        series: SeriesInstanceUID that was asked for; a folder may hold several, all called as the folder.
        overwrite: whether the results of another image may go.

    Raises:
        ValueError: if the file is no record, or of another image.
    """
    file = record_file(result, case["mask"])
    if not file.exists():
        return
    try:
        record = read_record(file)
    except (ValueError, OSError) as error:
        if file.is_file() and (result / case["mask"]).exists():
            return
        raise ValueError(
            f"{file} exists and was not written by this program; move it, or give another folder as --out"
        ) from error
    others = [name for name in (series, record["series"]) if name is not None]
    if not overwrite and (record["image"] != sources_of(case) or len(set(others)) > 1):
        other = f"the series {record['series']} of {record['image'][0]}" if record["series"] else record["image"][0]
        raise ValueError(
            f"{case['mask']} in {result} is the mask of another image, {other}; give another folder as --out, or "
            "--overwrite if that may go"
        )


def files_beside(result: Path, mask: str) -> list[Path]:
    """Return the files that an earlier call has written beside a mask, and that are still as it wrote them.

    Args:
        result: the folder of the results.
        mask: the mask's file name in it.
    """
    record = record_file(result, mask)
    try:
        known = dict(read_record(record).get("checksums") or {})
    except (ValueError, TypeError, OSError):
        return []
    known.pop(mask, None)
    files = {result / name: digest for name, digest in known.items() if (result / name).parent == record.parent}
    return [file for file, digest in files.items() if file.is_file() and checksum(file) == digest]


def sources_of(case: Mapping[str, Any]) -> list[str]:
    """Return the absolute paths of what a user knows of an image: its files, its folder, or the zip that holds it.

    Args:
        case: the image.
    """
    files = [case["archive"]] if "archive" in case else files_of(case["image"])
    return [os.path.abspath(path) for path in files]  # noqa: PTH100 - links stay


def check_tables(result: Path) -> None:
    """Refuse a folder whose ``volumes.csv`` is of somebody else.

    Args:
        result: the folder of the results.

    Raises:
        ValueError: if that file is no table of volumes.
    """
    file = result / "volumes.csv"
    first = ",".join(COLUMNS[:3])
    if file.is_dir() or (file.is_file() and file.stat().st_size and not file.read_bytes().startswith(first.encode())):
        raise ValueError(f"{file} exists and was not written by this program; move it, or give another folder as --out")


def write_record(result: Path, record: Mapping[str, Any]) -> None:
    """Write the record of an image beside its mask.

    Args:
        result: the folder of the results.
        record: its content.
    """
    write_text(record_file(result, record["mask"]), json.dumps(record, indent=1, ensure_ascii=False) + "\n")
