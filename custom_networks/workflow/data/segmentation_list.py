"""Which files to train on, to validate on, and to segment."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from custom_networks.workflow.data.cases import (
    INDEX,
    SUFFIXES,
    VALIDATION,
    Case,
    case_name,
    find_cases,
    is_image_file,
    is_series,
    refuse,
)

logger = logging.getLogger(__name__)

FOLDS = 5


def _fold_of(names: Sequence[str], folds_file: str | Path | None) -> dict[str, int]:
    """Return the fold of each case: from the file if it knows any of them, else its rank modulo five."""
    if folds_file is not None and Path(folds_file).is_file():
        folds = json.loads(Path(folds_file).read_text())["folds"]
        known = {name: fold for fold, members in enumerate(folds) for name in members}
        chosen = {name: known[name] for name in names if name in known}
        if chosen:
            if len(chosen) < len(names):
                logger.warning(
                    "%d of %d cases are in no fold of %s; left out", len(names) - len(chosen), len(names), folds_file
                )
            return chosen
    return {name: rank % FOLDS for rank, name in enumerate(sorted(names))}


def segmentation_data_list(
    dataset_dir: str | Path,
    section: str,
    *,
    fold: int = 0,
    folds_file: str | Path | None = None,
    image_glob: str | None = None,
    label_glob: str | None = None,
) -> list[dict[str, str]]:
    """List the image and label files of the training or the validation set.

    The cases come from ``dataset.json`` of the Medical Segmentation Decathlon layout, or, if it lists none or a pattern
    is given, from images and labels of one name, see :func:`custom_networks.workflow.data.cases.find_cases`. A
    "validation" list in ``dataset.json`` is the validation set. Otherwise the cases are split into five folds: as
    ``folds_file`` says if it names any of the cases, else the case of rank i among the sorted names belongs to fold i
    modulo 5. Validation is the given fold, training all others.

    Args:
        dataset_dir: folder of the data set.
        section: "training" or "validation".
        fold: validation fold, 0 to 4.
        folds_file: JSON file whose "folds" is a list of five lists of case names.
        image_glob: pattern under ``dataset_dir`` for images; with ``label_glob`` alone, ``imagesTr/*``.
        label_glob: pattern under ``dataset_dir`` for labels; with ``image_glob`` alone, ``labelsTr/*``.

    Raises:
        FileNotFoundError: if the folder is missing, or there is no image or no label at all.
        ValueError: if images and labels do not pair up, ``dataset.json`` lists what is absent, or a section is empty.
    """
    root = Path(dataset_dir)
    if not root.is_dir():
        raise FileNotFoundError(f"there is no data set folder {root}; set dataset_dir")
    if not 0 <= fold < FOLDS:
        raise ValueError(f"fold must lie between 0 and {FOLDS - 1}, got {fold}; the folds are counted from 0")
    cases, problems = find_cases(root, image_glob, label_glob)
    refuse(problems)
    if any(case.section == VALIDATION for case in cases):
        return [_as_paths(case) for case in cases if case.section == section]
    folds = _fold_of([case_name(case.image) for case in cases], folds_file)
    split: dict[bool, list[dict[str, str]]] = {True: [], False: []}
    for case in cases:
        name = case_name(case.image)
        if name in folds:
            split[folds[name] == fold].append(_as_paths(case))
    for validating, word in ((False, "train on"), (True, "validate on")):
        if not split[validating]:
            raise ValueError(f"{len(cases)} cases under {root} leave nothing to {word} with fold {fold}; add cases")
    return split[section == VALIDATION]


def _as_paths(case: Case) -> dict[str, str]:
    return {"image": str(case.image), "label": str(case.label)}


def inference_data_list(dataset_dir: str | Path) -> list[dict[str, str]]:
    """List the images to segment.

    Args:
        dataset_dir: a NIfTI or NRRD file, a folder of such files, a folder that holds one DICOM series, a folder of
            such series folders, or a Decathlon folder, whose ``imagesTs`` is taken.

    Raises:
        FileNotFoundError: if the path does not exist or holds no image.
        ValueError: if two images would write the same result, or a file has another format.
    """
    path = Path(dataset_dir)
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}; set dataset_dir to an image or a folder of images")
    if path.is_file():
        if not path.name.lower().endswith(SUFFIXES):
            raise ValueError(
                f"{path} is not one of {', '.join(SUFFIXES)}; convert it, or give the folder of a DICOM series"
            )
        return [{"image": str(path)}]
    if (path / INDEX).is_file():
        path = path / "imagesTs"
        if not path.is_dir():
            raise FileNotFoundError(f"there is no folder {path}; put the images to segment there or set dataset_dir")
    found = [p for p in sorted(path.iterdir()) if not p.name.startswith(".")]
    images = [p for p in found if is_image_file(p)]
    if not images and is_series(path):
        return [{"image": str(path)}]
    if not images:
        images = [p for p in found if is_series(p)]
    if not images:
        raise FileNotFoundError(
            f"no NIfTI, NRRD or DICOM image in {path}; set dataset_dir to an image or a folder of images"
        )
    names = [case_name(p) for p in images]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"{len(twice)} names in {path} occur twice, such as {twice[0]!r}; their results would overwrite each other"
        )
    return [{"image": str(p)} for p in images]
