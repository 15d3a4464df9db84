"""Every problem of a data set folder at once, before anything is trained on it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage
from tqdm import tqdm

from custom_networks.adapt.choices import patients
from custom_networks.adapt.files import INDEX, Problem, find_cases, read_index, read_volume
from custom_networks.files import read_json
from custom_networks.workflow.data.image_checks import check_image
from custom_networks.workflow.data.segmentation_list import case_name, segmentation_data_list
from custom_networks.workflow.transforms.class_labels import class_values
from custom_networks.workflow.transforms.regions import region_values

AFFINE_TOLERANCE = 1e-2
SPACING_FACTOR = 3.0
MOST_VALUES = 256


def check(dataset_dir: str, profile: str | None = None) -> None:
    """Read every image and label of a folder once and print all problems, by file name, or "ready".

    Before them stand the voxels of each label value, and how many cases lack it.

    Args:
        dataset_dir: folder with a Decathlon ``dataset.json``, or with ``imagesTr`` and ``labelsTr``.
        profile: flat JSON file whose ``image_glob``, ``label_glob``, ``in_channels``, ``label_names``,
            ``label_values``, ``regions``, ``fold`` and ``folds_file`` are what the data are held against; without it
            the first image says the number of channels, any class is taken, and no patient may be on both sides of the
            split that ``dataset.json`` lists.

    Raises:
        FileNotFoundError: if there is no such folder or nothing in it.
        ValueError: if there are problems, or the profile is no JSON object.
    """
    root = Path(str(dataset_dir))
    if not root.is_dir():
        raise FileNotFoundError(f"there is no data set folder {root}; give the folder that holds the images")
    knobs = {} if profile is None else read_json(Path(str(profile)))
    cases, problems = find_cases(root, knobs.get("image_glob"), knobs.get("label_glob"))
    if not problems:
        problems += _shared_patients(root, knobs)
    run = _read_all(cases, knobs)
    problems += run.problems + _spacing_problems(run.spacings)
    if profile is not None:
        problems += [(Path(str(profile)).name, what) for what in _absent_classes(run.voxels, knobs)]
    for value, count in sorted(run.voxels.items()):
        print(f"label value {value:g}: {count} voxels{_lacking(run.values, value)}")
    width = max((len(file) for file, _ in problems), default=0)
    for file, what in problems:
        print(f"{file:{width}}  {what}")
    if problems:
        raise ValueError(f"{len(problems)} problem{'s' * (len(problems) > 1)} in {root}; correct what is listed above")
    print(f"{len(cases)} cases: ready")


def _allowed(knobs: Mapping[str, Any]) -> set[int] | None:
    """Return the label values that a profile names, None if it takes any: with regions, others are background."""
    if "label_names" not in knobs:
        return None
    regions = knobs.get("regions")
    classes = class_values(knobs["label_names"], knobs.get("label_values"), regions)
    return {value for entry in classes for value in entry} if regions is None else None


def _read_all(cases: Sequence[tuple[Path, Path]], knobs: Mapping[str, Any]) -> _Check:
    """Read one case at a time."""
    run = _Check(LoadImage(image_only=True), knobs.get("in_channels"), _allowed(knobs))
    for image, label in tqdm(cases, desc="check", unit="case", disable=None):
        run.case(image, label)
    return run


def _shared_patients(root: Path, knobs: Mapping[str, Any]) -> list[Problem]:
    """Name the cases to validate on whose patient is trained on, where the split is given and names tell patients."""
    if not knobs and not read_index(root).get("validation"):
        return []
    given = {key: knobs[key] for key in ("fold", "folds_file", "image_glob", "label_glob") if key in knobs}
    if "image_glob" not in given and not (root / INDEX).is_file():
        return []
    try:
        training, validation = (
            {case_name(case["image"]): Path(case["image"]).name for case in segmentation_data_list(root, part, **given)}
            for part in ("training", "validation")
        )
    except ValueError as error:  # one problem among others
        return [(root.name, str(error))]
    groups = patients([*training, *validation]) or []
    return [
        (validation[name], f"is to validate on, but {training[trained[0]]} of the same patient is to train on")
        for group in groups
        if (trained := [name for name in group if name in training])
        for name in group
        if name in validation
    ]


def _absent_classes(voxels: Mapping[float, int], knobs: Mapping[str, Any]) -> list[str]:
    if "label_names" not in knobs:
        return []
    names, regions = knobs["label_names"], knobs.get("regions")
    values = class_values(names, knobs.get("label_values"))[1:] if regions is None else region_values(names, regions)
    return [
        f"names the class {name} (label value {', '.join(map(str, entry))}), which no label holds"
        for name, entry in zip(names[1:], values, strict=True)
        if not any(voxels.get(value) for value in entry)
    ]


def _lacking(values: Mapping[str, set[float]], value: float) -> str:
    lacking = [name for name, held in values.items() if value not in held]
    return f", absent from {len(lacking)} of {len(values)} cases, such as {lacking[0]}" if lacking else ""


class _Check:
    """What has been found so far; the volumes of a case are gone when the next is read."""

    def __init__(self, reader: LoadImage, in_channels: int | None, allowed: set[int] | None) -> None:
        self.reader, self.in_channels, self.allowed = reader, in_channels, allowed
        self.problems: list[Problem] = []
        self.voxels: Counter[float] = Counter()
        self.values: dict[str, set[float]] = {}
        self.spacings: dict[str, torch.Tensor] = {}
        self.seen: dict[bytes, str] = {}

    def case(self, image_path: Path, label_path: Path) -> None:
        volumes: list[MetaTensor] = []
        for path in (image_path, label_path):
            try:
                volumes.append(read_volume(path, self.reader))
            except ValueError as error:
                self.problems.append((path.name, str(error)))
        if len(volumes) == 2:
            self._image(volumes[0], image_path)
            self.problems += [(label_path.name, what) for what in self._label(volumes[1], volumes[0], label_path.name)]

    def _image(self, image: MetaTensor, path: Path) -> None:
        self.in_channels = self.in_channels or image.shape[0]
        try:
            check_image(image, str(path), self.in_channels)
        except ValueError as error:
            self.problems.append((path.name, str(error)))
        voxels = image.as_tensor().contiguous().numpy()
        if voxels.size and voxels.min() == voxels.max():
            self.problems.append((path.name, "constant image"))
        digest = hashlib.sha256(voxels.data).digest()
        if self.seen.setdefault(digest, path.name) != path.name:
            self.problems.append((path.name, f"same voxels as {self.seen[digest]}"))
        self.spacings[path.name] = torch.as_tensor(image.affine)[:3, :3].norm(dim=0)

    def _label(self, label: MetaTensor, image: MetaTensor, name: str) -> list[str]:
        found = []
        if label.shape[0] != 1:
            found.append(f"has {label.shape[0]} channels where one is expected")
        if label.shape[1:] != image.shape[1:]:
            found.append(f"has shape {tuple(label.shape[1:])} but its image {tuple(image.shape[1:])}")
        if label.affine.shape != image.affine.shape or not bool(
            ((label.affine - image.affine).abs() <= AFFINE_TOLERANCE).all()
        ):
            found.append("has another affine than its image")
        tensors = torch.unique(label.as_tensor(), return_counts=True)
        values, counts = (tensor.tolist() for tensor in tensors)
        if not all(float(value).is_integer() for value in values):
            found.append("holds values that are no integers")
        elif self.allowed and (wrong := [value for value in values if value not in self.allowed]):
            known = ", ".join(map(str, sorted(self.allowed)))
            found.append(f"holds the label value {wrong[0]:g}, but the classes are {known}")
        if not any(value > 0 for value in values):
            found.append("empty label")
        if len(values) <= MOST_VALUES:
            self.voxels.update(dict(zip(values, counts, strict=True)))
            self.values[name] = set(values)
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
