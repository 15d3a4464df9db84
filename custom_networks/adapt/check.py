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
from custom_networks.adapt.network import from_config_value
from custom_networks.files import read_json
from custom_networks.workflow.data.cases import VALIDATION, Case, Problem, below, case_name, find_cases, shared_cases
from custom_networks.workflow.data.image_checks import image_problems, read_volume
from custom_networks.workflow.data.label_checks import (
    grid_of,
    grid_problems,
    integer_problems,
    is_empty,
    value_problems,
)
from custom_networks.workflow.data.segmentation_list import segmentation_data_list
from custom_networks.workflow.transforms.class_labels import check_ignore_value, class_values
from custom_networks.workflow.transforms.regions import region_values

SPACING_FACTOR = 3.0
MOST_VALUES = 256


def check(
    dataset_dir: str, *, profile: str | None = None, images: str | None = None, labels: str | None = None
) -> None:
    """Read every image and label of a folder once and print all problems, each after its file, or "ready".

    Before them stand the voxels of each label value, and how many cases lack it.

    Args:
        dataset_dir: folder with a Decathlon ``dataset.json``, or with ``imagesTr`` and ``labelsTr``.
        profile: flat JSON file whose ``image_glob``, ``label_glob``, ``in_channels``, ``label_names``,
            ``label_values``, ``regions``, ``ignore_value``, ``fold`` and ``folds_file`` are what the data are held
            against; without it the first image says the number of channels, any class is taken, and no patient may be
            on both sides of the split that ``dataset.json`` lists.
        images: pattern under the folder for the images, such as ``"mr/*.nii.gz"``, in place of the profile's.
        labels: the same for the labels; images and labels of one name belong together.

    Raises:
        FileNotFoundError: if there is no such folder or nothing in it.
        ValueError: if there are problems, or the profile is no JSON object.
    """
    root = Path(str(dataset_dir))
    if not root.is_dir():
        raise FileNotFoundError(f"there is no data set folder {root}; give the folder that holds the images")
    knobs = {} if profile is None else from_config_value(read_json(Path(str(profile))))
    patterns = {"image_glob": images, "label_glob": labels}
    knobs |= {knob: str(pattern) for knob, pattern in patterns.items() if pattern is not None}
    cases, problems = find_cases(root, knobs.get("image_glob"), knobs.get("label_glob"))
    problems = problems or shared_cases(cases, root) or _shared_patients(root, cases, knobs)
    run = _read_all(root, cases, knobs)
    problems = [*problems, *run.problems, *_spacing_problems(run.spacings)]
    if profile is not None:
        problems += [Problem(Path(str(profile)), what) for what in _absent_classes(run.voxels, knobs)]
    for value, count in sorted(run.voxels.items()):
        print(f"label value {value:g}: {count} voxels{_lacking(run.values, value)}")
    files = [str(below(problem.path, root)) for problem in problems]
    width = max(map(len, files), default=0)
    for file, problem in zip(files, problems, strict=True):
        print(f"{file:{width}}  {problem.what}")
    if problems:
        raise ValueError(f"{len(problems)} problem{'s' * (len(problems) > 1)} in {root}; correct what is listed above")
    print(f"{len(cases)} cases: ready")


def _read_all(root: Path, cases: Sequence[Case], knobs: Mapping[str, Any]) -> _Check:
    """Read one case at a time."""
    run = _Check(root, knobs)
    for case in tqdm(cases, desc="check", unit="case", disable=None):
        run.case(case)
    return run


def _shared_patients(root: Path, cases: Sequence[Case], knobs: Mapping[str, Any]) -> list[Problem]:
    """Name the cases to validate on whose patient is trained on, where the split is given and names tell patients."""
    if not knobs and not any(case.section == VALIDATION for case in cases):
        return []
    given = {key: knobs[key] for key in ("fold", "folds_file", "image_glob", "label_glob") if key in knobs}
    try:
        training, validation = (
            {case_name(case["image"]): Path(case["image"]) for case in segmentation_data_list(root, part, **given)}
            for part in ("training", "validation")
        )
    except ValueError as error:  # one problem among others
        return [Problem(root, str(error))]
    groups = patients([*training, *validation]) or []
    return [
        Problem(
            validation[name],
            f"is to validate on, but {below(training[trained[0]], root)} of the same patient is to train on",
        )
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


def _lacking(values: Mapping[Path, set[float]], value: float) -> str:
    lacking = [name for name, held in values.items() if value not in held]
    return f", absent from {len(lacking)} of {len(values)} cases, such as {lacking[0]}" if lacking else ""


class _Check:
    """What has been found so far; the volumes of a case are gone when the next is read."""

    def __init__(self, root: Path, knobs: Mapping[str, Any]) -> None:
        self.root, self.reader = root, LoadImage(image_only=True)
        self.in_channels: int | None = knobs.get("in_channels")
        self.named: list[Any] = [knobs.get(key) for key in ("label_names", "label_values", "regions")]
        self.classes = None if self.named[0] is None else class_values(*self.named)
        self.ignore_value: int | None = knobs.get("ignore_value")
        if self.classes is not None:
            check_ignore_value(self.ignore_value, *self.named)
        self.problems: list[Problem] = []
        self.voxels: Counter[float] = Counter()
        self.values: dict[Path, set[float]] = {}
        self.spacings: dict[Path, torch.Tensor] = {}
        self.seen: dict[bytes, Path] = {}

    def case(self, case: Case) -> None:
        volumes: list[MetaTensor] = []
        for path in (case.image, case.label):
            try:
                volumes.append(read_volume(path, self.reader))
            except ValueError as error:
                self.problems.append(Problem(path, str(error).removeprefix(f"{path} ")))
        if len(volumes) == 2:
            self.problems += [Problem(case.image, what) for what in self._image(volumes[0], case.image)]
            self.problems += [Problem(case.label, what) for what in self._label(volumes[1], volumes[0], case)]

    def _image(self, image: MetaTensor, path: Path) -> list[str]:
        self.in_channels = self.in_channels or image.shape[0]
        found = image_problems(image, self.in_channels)
        voxels = image.as_tensor().contiguous().numpy()
        if voxels.size and voxels.min() == voxels.max():
            found.append("constant image")
        digest = hashlib.sha256(voxels.data).digest()
        if self.seen.setdefault(digest, path) != path:
            found.append(f"same voxels as {below(self.seen[digest], self.root)}")
        self.spacings[path] = torch.as_tensor(image.affine)[:3, :3].norm(dim=0)
        return found

    def _label(self, label: MetaTensor, image: MetaTensor, case: Case) -> list[str]:
        values, counts = (tensor.tolist() for tensor in torch.unique(label.as_tensor(), return_counts=True))
        wrong, labelled = integer_problems(values), set(values) - {self.ignore_value}
        if not wrong and self.named[0] is not None:
            wrong = value_problems(labelled, *self.named)
        if not wrong and is_empty(labelled, self.classes):
            wrong = ["is all background"]
        if len(values) <= MOST_VALUES:
            self.voxels.update(dict(zip(values, counts, strict=True)))
            self.values[below(case.label, self.root)] = set(values)
        return [*grid_problems(grid_of(label), grid_of(image), below(case.image, self.root)), *wrong]


def _spacing_problems(spacings: Mapping[Path, torch.Tensor]) -> list[Problem]:
    if not spacings:
        return []
    median = torch.stack(list(spacings.values())).median(dim=0).values
    return [
        Problem(path, f"has spacing {[round(s, 3) for s in spacing.tolist()]} mm where the median is {median.tolist()}")
        for path, spacing in spacings.items()
        if bool(((spacing / median > SPACING_FACTOR) | (median / spacing > SPACING_FACTOR)).any())
    ]
