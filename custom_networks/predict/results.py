"""What a result is made from, so that it is made again only when that has changed, and its record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_networks import __version__
from custom_networks.files import checksum, read_json, write_text
from custom_networks.workflow.data.cases import files_of
from custom_networks.workflow.report.volumes import RECORD_SUFFIX

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
    """
    files = []
    for path in files_of(case["image"]):
        # a folder is that of a DICOM series, and its names do not matter
        files += sorted(checksum(file) for file in path.rglob("*")) if path.is_dir() else [checksum(path)]
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
    file = record_file(result, case["mask"])
    if not file.is_file():
        return None
    try:
        record = read_json(file)
    except ValueError:  # is written anew
        return None
    written = [record.get("mask", case["mask"]), *record.get("files", [])]
    if record.get("inputs") != inputs or not all((result / str(name)).is_file() for name in written):
        return None
    return record


def write_record(result: Path, record: Mapping[str, Any]) -> None:
    """Write the record of an image beside its mask.

    Args:
        result: the folder of the results.
        record: its content.
    """
    write_text(record_file(result, record["mask"]), json.dumps(record, indent=1, ensure_ascii=False) + "\n")
