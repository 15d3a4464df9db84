"""The images and labels of a data set folder, as the data lists of the bundles find them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monai.data import MetaTensor
from monai.transforms import LoadImage

from custom_networks.files import read_json
from custom_networks.workflow.data.image_checks import load_image
from custom_networks.workflow.data.segmentation_list import SUFFIXES, case_name

Problem = tuple[str, str]
"""A file and what is wrong with it."""
FOLDERS = ("imagesTr", "labelsTr")
INDEX = "dataset.json"


def read_index(root: Path) -> dict[str, Any]:
    """Return the content of ``dataset.json``, nothing if there is none.

    Args:
        root: the data set folder.

    Raises:
        ValueError: if it is no JSON object.
    """
    return read_json(root / INDEX) if (root / INDEX).is_file() else {}


def find_cases(
    root: Path, image_glob: str | None = None, label_glob: str | None = None
) -> tuple[list[tuple[Path, Path]], list[Problem]]:
    """Return the pairs of image and label whose files exist, and what is wrong with the others.

    The pairs are those that ``dataset.json`` lists, unless patterns are given or it lists none: then files of one name.

    Args:
        root: the data set folder.
        image_glob: pattern under it for images; what ``imagesTr`` holds if None and nothing is listed.
        label_glob: the same for labels, ``labelsTr``.

    Raises:
        FileNotFoundError: if there is nothing at all.
        ValueError: if ``dataset.json`` is no JSON object.
    """
    problems: list[Problem] = []
    document = {} if image_glob else read_index(root)
    entries = [entry for key in ("training", "validation") for entry in document.get(key) or []]
    if entries:
        pairs = _listed(root, entries, problems)
    else:
        images = _by_name(root, image_glob or f"{FOLDERS[0]}/*", problems)
        labels = _by_name(root, label_glob or f"{FOLDERS[1]}/*", problems)
        problems += [(images[name].name, "image without label") for name in sorted(set(images) - set(labels))]
        problems += [(labels[name].name, "label without image") for name in sorted(set(labels) - set(images))]
        pairs = [(images[name], labels[name]) for name in sorted(set(images) & set(labels))]
    if not pairs and not problems:
        raise FileNotFoundError(f"no image in {root}; give a folder with dataset.json, or with imagesTr and labelsTr")
    return pairs, problems


def _listed(root: Path, entries: list[Any], problems: list[Problem]) -> list[tuple[Path, Path]]:
    pairs = []
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not {"image", "label"} <= set(entry):
            problems.append((INDEX, f"entry {number} has no image or no label"))
            continue
        pair = root / str(entry["image"]), root / str(entry["label"])
        absent = [path for path in pair if not path.is_file()]
        problems += [(str(path.relative_to(root)), f"listed in {INDEX} but absent") for path in absent]
        if not absent:
            pairs.append(pair)
    problems += [
        (name, f"several images in {INDEX} have this case name")
        for name, count in Counter(case_name(image) for image, _ in pairs).items()
        if count > 1
    ]
    return pairs


def _by_name(root: Path, pattern: str, problems: list[Problem]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in sorted(root.glob(pattern)):
        if path.name.startswith(".") or not path.name.lower().endswith(SUFFIXES):
            continue
        if case_name(path) in named:
            problems.append((path.name, f"has the case name of {named[case_name(path)].name}"))
        named.setdefault(case_name(path), path)
    return named


def read_volume(path: Path, reader: LoadImage) -> MetaTensor:
    """Read a file whose voxels are real numbers and whose header places them.

    Args:
        path: an image or a label.
        reader: MONAI's reader.

    Raises:
        ValueError: if it is anything else.
    """
    affine = None
    if path.name.lower().endswith((".nii", ".nii.gz")):
        try:
            header: Any = nibabel.load(path)
        except Exception as error:
            raise ValueError(f"cannot be read as an image ({error}); replace it") from error
        kind = header.get_data_dtype()
        if kind.kind not in "biuf":
            raise ValueError(f"has voxels of type {kind}; save real numbers")
        affine = header.affine  # MONAI's reader puts another in the place of one that cannot be
    volume = load_image(str(path), reader)
    if not abs(float(np.linalg.det(np.asarray(volume.affine if affine is None else affine)[:3, :3]))) > 1e-9:
        raise ValueError("has a singular affine; correct the header")
    return volume
