"""Every problem of a data set folder at once, before anything is trained on it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage
from tqdm import tqdm

from custom_networks.workflow.class_labels import class_values
from custom_networks.workflow.data_checks import check_image, load_image
from custom_networks.workflow.data_list import SUFFIXES, case_name

Problem = tuple[str, str]
AFFINE_TOLERANCE = 1e-2
SPACING_FACTOR = 3.0


def check(dataset_dir: str, profile: str | None = None) -> None:
    """Read every image and label of a folder once and print all problems, by file name, or "ready".

    Args:
        dataset_dir: folder with a Decathlon ``dataset.json``, or with ``imagesTr`` and ``labelsTr``.
        profile: flat JSON file whose ``image_glob``, ``label_glob``, ``in_channels``, ``label_names``,
            ``label_values`` and ``regions`` are what the data are held against; without it the first image says the
            number of channels, and any class is taken.

    Raises:
        FileNotFoundError: if there is no such folder or nothing in it.
        ValueError: if there are problems, or the profile is no JSON object or contradicts itself.
    """
    root = Path(str(dataset_dir))
    if not root.is_dir():
        raise FileNotFoundError(f"there is no data set folder {root}; give the folder that holds the images")
    knobs = {} if profile is None else _json(Path(str(profile)))
    cases, problems = _cases(root, knobs)
    found, voxels = _read_all(cases, knobs.get("in_channels"), _values(knobs))
    problems += found
    for value, count in sorted(voxels.items()):
        print(f"label value {value:g}: {count} voxels")
    width = max((len(file) for file, _ in problems), default=0)
    for file, what in problems:
        print(f"{file:{width}}  {what}")
    if problems:
        raise ValueError(f"{len(problems)} problems in {root}; correct the files listed above")
    print(f"{len(cases)} cases: ready")


def _json(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON ({error}); correct it") from error
    if not isinstance(document, dict):
        raise ValueError(f"{file} is not a JSON object; correct it")  # noqa: TRY004 - the file is wrong
    return document


def _values(knobs: Mapping[str, Any]) -> set[int] | None:
    """Return the label values that a profile names, None if it takes any: with regions, others are background."""
    if "label_names" not in knobs:
        return None
    regions = knobs.get("regions")
    classes = class_values(knobs["label_names"], knobs.get("label_values"), regions)
    return {value for entry in classes for value in entry} if regions is None else None


def _cases(root: Path, knobs: Mapping[str, Any]) -> tuple[list[tuple[Path, Path]], list[Problem]]:
    """Return the pairs whose files exist, and what is wrong with the others."""
    problems: list[Problem] = []
    if (root / "dataset.json").is_file() and not knobs.get("image_glob"):
        document, pairs = _json(root / "dataset.json"), []
        entries = [entry for key in ("training", "validation") for entry in document.get(key) or []]
        for number, entry in enumerate(entries):
            if not isinstance(entry, dict) or not {"image", "label"} <= set(entry):
                problems.append(("dataset.json", f"entry {number} has no image or no label"))
                continue
            pair = root / str(entry["image"]), root / str(entry["label"])
            absent = [path for path in pair if not path.is_file()]
            problems += [(str(path.relative_to(root)), "listed in dataset.json but absent") for path in absent]
            if not absent:
                pairs.append(pair)
        problems += [
            (name, "several images in dataset.json have this case name")
            for name, count in Counter(case_name(image) for image, _ in pairs).items()
            if count > 1
        ]
    else:
        images = _by_name(root, knobs.get("image_glob") or "imagesTr/*", problems)
        labels = _by_name(root, knobs.get("label_glob") or "labelsTr/*", problems)
        problems += [(images[name].name, "image without label") for name in sorted(set(images) - set(labels))]
        problems += [(labels[name].name, "label without image") for name in sorted(set(labels) - set(images))]
        pairs = [(images[name], labels[name]) for name in sorted(set(images) & set(labels))]
    if not pairs and not problems:
        raise FileNotFoundError(f"no image in {root}; give a folder with dataset.json, or with imagesTr and labelsTr")
    return pairs, problems


def _by_name(root: Path, pattern: str, problems: list[Problem]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in sorted(root.glob(pattern)):
        if path.name.startswith(".") or not path.name.lower().endswith(SUFFIXES):
            continue
        if case_name(path) in named:
            problems.append((path.name, f"has the case name of {named[case_name(path)].name}"))
        named.setdefault(case_name(path), path)
    return named


def _read_all(
    cases: Sequence[tuple[Path, Path]], in_channels: int | None, known: set[int] | None
) -> tuple[list[Problem], Counter[float]]:
    """Read one case at a time."""
    reader, problems, voxels = LoadImage(image_only=True), [], Counter[float]()
    seen: dict[str, str] = {}
    spacings: dict[str, torch.Tensor] = {}
    for image_path, label_path in tqdm(cases, desc="check", unit="case", disable=None):
        volumes: list[MetaTensor] = []
        for path in (image_path, label_path):
            try:
                volumes.append(_load(path, reader))
            except ValueError as error:
                problems.append((path.name, str(error)))
        if len(volumes) < 2:
            continue
        image, label = volumes
        in_channels = in_channels or image.shape[0]
        try:
            check_image(image, str(image_path), in_channels)
        except ValueError as error:
            problems.append((image_path.name, str(error)))
        if image.numel() and bool((image == image.flatten()[0]).all()):
            problems.append((image_path.name, "constant image"))
        digest = hashlib.sha256(image.as_tensor().contiguous().numpy().tobytes()).hexdigest()
        if seen.setdefault(digest, image_path.name) != image_path.name:
            problems.append((image_path.name, f"same voxels as {seen[digest]}"))
        spacings[image_path.name] = torch.as_tensor(image.affine)[:3, :3].norm(dim=0)
        problems += [(label_path.name, what) for what in _label_problems(label, image, known)]
        values, counts = torch.unique(label.as_tensor(), return_counts=True)
        if len(values) <= 256:
            voxels.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    return problems + _spacing_problems(spacings), voxels


def _load(path: Path, reader: LoadImage) -> MetaTensor:
    """Read a file whose voxels are real numbers and whose header places them."""
    if path.name.lower().endswith((".nii", ".nii.gz")):
        try:
            header: Any = nibabel.load(path)
        except Exception as error:
            raise ValueError(f"cannot be read as an image ({error}); replace it") from error
        kind = header.get_data_dtype()
        if kind.kind not in "biuf":
            raise ValueError(f"has voxels of type {kind}; save real numbers")
    volume = load_image(str(path), reader)
    if not abs(float(torch.linalg.det(torch.as_tensor(volume.affine)[:3, :3]))) > 1e-9:
        raise ValueError("has a singular affine; correct the header")
    return volume


def _label_problems(label: MetaTensor, image: MetaTensor, known: set[int] | None) -> list[str]:
    found = []
    if label.shape[0] != 1:
        found.append(f"has {label.shape[0]} channels where one is expected")
    if label.shape[1:] != image.shape[1:]:
        found.append(f"has shape {tuple(label.shape[1:])} but its image {tuple(image.shape[1:])}")
    if label.affine.shape != image.affine.shape or not bool(
        ((label.affine - image.affine).abs() <= AFFINE_TOLERANCE).all()
    ):
        found.append("has another affine than its image")
    values = torch.unique(label.as_tensor()).tolist()
    if any(value != value or value != round(value) for value in values if abs(value) != float("inf")):
        found.append("holds values that are no integers")
    elif known and (wrong := [value for value in values if value not in known]):
        found.append(f"holds the label value {wrong[0]:g}, but the classes are {', '.join(map(str, sorted(known)))}")
    if not any(value > 0 for value in values):
        found.append("empty label")
    return found


def _spacing_problems(spacings: Mapping[str, torch.Tensor]) -> list[Problem]:
    if not spacings:
        return []
    median = torch.stack(list(spacings.values())).median(dim=0).values
    return [
        (name, f"has spacing {[round(s, 3) for s in spacing.tolist()]} mm where the median is {median.tolist()}")
        for name, spacing in spacings.items()
        if bool(((spacing / median > SPACING_FACTOR) | (median / spacing > SPACING_FACTOR)).any())
    ]
