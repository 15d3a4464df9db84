"""The predictions in a folder, and which of them is that of a case."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from custom_networks.evaluate.labelled_cases import listed, short_name
from custom_networks.predict.results import record_file
from custom_networks.workflow.data.cases import FORMATS, Case, case_name, refuse
from custom_networks.workflow.data.layouts.files import broken, has_image_name, scan
from custom_networks.workflow.data.layouts.nnunet import split_channel
from custom_networks.workflow.report.volumes import read_record


@dataclass(frozen=True)
class Prediction:
    """A label map that somebody or something has made.

    Args:
        file: its file.
        images: the absolute paths of its image, where its record says so.
    """

    file: Path
    images: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pair:
    """A case and its prediction.

    Args:
        case: the case.
        prediction: its prediction.
    """

    case: Case
    prediction: Prediction


def find_predictions(root: Path) -> list[Prediction]:
    """Return the label maps in a folder and the folders in it.

    Of a case that ``predict`` has segmented its record says which image it was, and which files are the same mask in
    another format.

    Args:
        root: the folder.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if a link leads nowhere, or a folder may not be read.
    """
    files = list(_walk(root))
    refuse(broken(files))
    records = {}
    for file in files:
        try:
            record = read_record(record_file(root, file.relative_to(root).as_posix()))
        except (OSError, ValueError):  # somebody else's
            continue
        if root / record["mask"] == file:
            records[file] = record
    again = {root / name for record in records.values() for name in record.get("files", ())}
    found = [Prediction(file, tuple(records.get(file, {}).get("image", ()))) for file in files if file not in again]
    if not found:
        raise FileNotFoundError(f"there is no {FORMATS} file in {root}; give the folder of the predictions")
    return found


def _walk(folder: Path) -> Iterator[Path]:
    for path in scan(folder):
        if has_image_name(path):
            yield path
        elif path.is_dir() and not path.is_symlink():
            yield from _walk(path)


def predictions_of(cases: Sequence[Case], predictions: Sequence[Prediction]) -> dict[str, list[Prediction]]:
    """Return which predictions are of each case, by its name: one, if all is well.

    A prediction belongs to the case whose image its record names, else to that which it is called as, or whose image
    is called so.

    Args:
        cases: all that have a label.
        predictions: label maps.
    """
    # links stay, as in records
    images = {tuple(os.path.abspath(path) for path in case.images): case.name for case in cases if case.images}  # noqa: PTH100
    found: dict[str, list[Prediction]] = {case.name: [] for case in cases}
    by_name: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        if prediction.images in images:
            found[images[prediction.images]].append(prediction)
        else:
            by_name.setdefault(short_name(prediction.file), []).append(prediction)
    times = Counter(name for case in cases for name in _names(case))
    for case in cases:
        for name in _names(case):
            if not found[case.name] and times[name] == 1:
                found[case.name] = by_name.get(name, [])
    return found


def pairs_of(chosen: Sequence[Case], found: Mapping[str, Sequence[Prediction]], labels: Path, root: Path) -> list[Pair]:
    """Return every case with its prediction.

    Args:
        chosen: the cases.
        found: what :func:`predictions_of` returned.
        labels: where the cases are, for errors.
        root: where the predictions are, for errors.

    Raises:
        ValueError: if a case has none, or several.
    """
    for case in chosen:
        if len(own := found[case.name]) > 1:
            raise ValueError(
                f"{own[0].file} and {own[1].file} are both predictions of the case {case.name}; move one of them"
            )
    if absent := [case.name for case in chosen if not found[case.name]]:
        raise ValueError(
            f"{len(absent)} of {len(chosen)} cases of {labels} have no prediction in {root}: {listed(absent)}; predict "
            "them, or say with --cases or --folds_file which cases to evaluate"
        )
    return [Pair(case, found[case.name][0]) for case in chosen]


def _names(case: Case) -> list[str]:
    """Return what a prediction of a case may be called, without ``_seg``."""
    if not case.images:
        return [case.name]
    channel = split_channel(case.images[0])
    return list(dict.fromkeys([case.name, channel[0] if channel else case_name(case.images[0])]))
