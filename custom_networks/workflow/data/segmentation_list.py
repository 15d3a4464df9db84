"""Which files to train on, to validate on, and to segment."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from monai.data import load_decathlon_datalist

logger = logging.getLogger(__name__)

SUFFIXES = (".nii.gz", ".nii", ".nrrd")
FOLDS = 5


def case_name(path: str | Path) -> str:
    """Return the file or folder name without an image suffix.

    Args:
        path: an image file or a DICOM series folder.

    Example:
        >>> case_name("imagesTr/hippocampus_003.nii.gz")
        'hippocampus_003'
    """
    name = Path(path).name
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def _by_case(dataset_dir: Path, pattern: str, knob: str) -> dict[str, str]:
    paths = sorted(p for p in dataset_dir.glob(pattern) if not p.name.startswith("."))
    if not paths:
        raise FileNotFoundError(f"no file matches {dataset_dir / pattern}; set dataset_dir or {knob}")
    cases = {case_name(p): str(p) for p in paths}
    if len(cases) < len(paths):
        raise ValueError(
            f"{len(paths)} files match {dataset_dir / pattern} but only {len(cases)} case names; rename them"
        )
    return cases


def _pairs(dataset_dir: Path, image_glob: str, label_glob: str) -> list[dict[str, str]]:
    images, labels = _by_case(dataset_dir, image_glob, "image_glob"), _by_case(dataset_dir, label_glob, "label_glob")
    for one, other, missing in ((images, labels, "label"), (labels, images, "image")):
        alone = sorted(set(one) - set(other))
        if alone:
            raise ValueError(
                f"{len(images)} images and {len(labels)} labels under {dataset_dir}: {one[alone[0]]} has no {missing} "
                f"of the same name ({len(alone)} such files); add the missing files or remove these"
            )
    return [{"image": images[name], "label": labels[name]} for name in sorted(images)]


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

    The cases come from ``dataset.json`` of the Medical Segmentation Decathlon layout, or, if ``image_glob`` is given,
    from two patterns whose files are paired by name. A "validation" list in ``dataset.json`` is the validation set.
    Otherwise the cases are split into five folds: as ``folds_file`` says if it names any of the cases, else the case of
    rank i among the sorted names belongs to fold i modulo 5. Validation is the given fold, training all others.

    Args:
        dataset_dir: folder of the data set.
        section: "training" or "validation".
        fold: validation fold, 0 to 4.
        folds_file: JSON file whose "folds" is a list of five lists of case names.
        image_glob: pattern under ``dataset_dir`` for images, or ``None`` to read ``dataset.json``.
        label_glob: pattern under ``dataset_dir`` for labels.

    Raises:
        FileNotFoundError: if the folder, ``dataset.json`` or any match is missing.
        ValueError: if images and labels do not pair up, ``dataset.json`` lacks a label, or a section is empty.
    """
    root = Path(dataset_dir)
    if not root.is_dir():
        raise FileNotFoundError(f"there is no data set folder {root}; set dataset_dir")
    if not 0 <= fold < FOLDS:
        raise ValueError(f"fold must lie between 0 and {FOLDS - 1}, got {fold}; the folds are counted from 0")
    if image_glob is not None:
        cases = _pairs(root, image_glob, label_glob or "labelsTr/*.nii*")
    else:
        index = root / "dataset.json"
        if not index.is_file():
            raise FileNotFoundError(
                f"there is no {index}; set dataset_dir to a Decathlon folder, or image_glob and label_glob"
            )
        validation = _has_validation(index)
        cases = _decathlon(index, "training")
        if validation:
            return cases if section == "training" else _decathlon(index, "validation")
    folds = _fold_of([case_name(case["image"]) for case in cases], folds_file)
    split: dict[bool, list[dict[str, str]]] = {True: [], False: []}
    for case in cases:
        name = case_name(case["image"])
        if name in folds:
            split[folds[name] == fold].append(case)
    for validating, word in ((False, "train on"), (True, "validate on")):
        if not split[validating]:
            raise ValueError(f"{len(cases)} cases under {root} leave nothing to {word} with fold {fold}; add cases")
    return split[section == "validation"]


def _has_validation(index: Path) -> bool:
    """Tell whether a dataset.json holds a validation list, or say why it cannot be read."""
    try:
        return bool(json.loads(index.read_text(encoding="utf-8")).get("validation"))
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{index} is not a JSON object ({error}); write it as in the Medical Decathlon") from error


def _decathlon(index: Path, section: str) -> list[dict[str, str]]:
    """Read one list of a Decathlon dataset.json."""
    try:
        cases = load_decathlon_datalist(index, is_segmentation=True, data_list_key=section, base_dir=index.parent)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{index} has no usable {section!r} list ({error}); write one image and one label per case"
        ) from error
    for number, case in enumerate(cases):
        if not isinstance(case, dict) or not {"image", "label"} <= set(case):
            raise ValueError(f"entry {number} of {section!r} in {index} has no image or no label; add the missing path")
    if not cases:
        raise ValueError(f"{section!r} in {index} is empty; add at least one case")
    names = [case_name(case["image"]) for case in cases]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"{len(twice)} image names occur twice in {section!r} of {index}, such as {twice[0]!r}; give every case a "
            "file name of its own, results are listed by it"
        )
    return [{"image": str(case["image"]), "label": str(case["label"])} for case in cases]


def _is_dicom(path: Path) -> bool:
    """Tell a DICOM file by its magic word."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


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
    if (path / "dataset.json").is_file():
        path = path / "imagesTs"
        if not path.is_dir():
            raise FileNotFoundError(f"there is no folder {path}; put the images to segment there or set dataset_dir")
    found = [p for p in sorted(path.iterdir()) if not p.name.startswith(".")]
    images = [p for p in found if p.is_file() and p.name.lower().endswith(SUFFIXES)]
    if not images and any(p.is_file() and _is_dicom(p) for p in found):
        return [{"image": str(path)}]
    if not images:
        images = [p for p in found if p.is_dir() and any(q.is_file() and _is_dicom(q) for q in sorted(p.iterdir()))]
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
