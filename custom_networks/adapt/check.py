"""Every problem of a data set folder at once, before anything is trained on it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from tqdm import tqdm

from custom_networks.adapt.labels import (
    background_value,
    channel_names,
    ignored_label,
    label_regions,
    label_volume,
    named_labels,
    named_values,
)
from custom_networks.adapt.neighbours import alike_neighbours
from custom_networks.workflow.data.cases import VALIDATION, Case, Problem, below, files_of, shared_cases
from custom_networks.workflow.data.folds import ALL, SPLITS
from custom_networks.workflow.data.image_checks import image_problems
from custom_networks.workflow.data.label_checks import (
    grid_of,
    grid_problems,
    is_empty,
    negative_problems,
    value_problems,
)
from custom_networks.workflow.data.layouts.files import INDEX, read_index
from custom_networks.workflow.data.layouts.finder import find_cases
from custom_networks.workflow.data.patients import PATIENTS, find_patients, shared_patients
from custom_networks.workflow.data.segmentation_list import segmentation_data_list
from custom_networks.workflow.data.volumes import NOTES, read_volume
from custom_networks.workflow.guard.knobs import wrong_knob
from custom_networks.workflow.transforms.class_labels import check_ignore_value, class_values
from custom_networks.workflow.transforms.regions import region_values

SPACING_FACTOR = 3.0
MOST_VALUES = 256
MOST_LINES = 10
KIND_WORDS = 3
LOOKED_AT = (
    "image_glob",
    "label_glob",
    "in_channels",
    "label_names",
    "label_values",
    "regions",
    "ignore_value",
    "fold",
    "folds_file",
)
"""The knobs that say how the data are to be."""


def print_problems(root: Path, knobs: Mapping[str, Any], profile: Path | None) -> None:
    """Read every image and label of a folder once and print all problems.

    Args:
        root: the folder.
        knobs: those that the data are held against.
        profile: where they are from.

    Raises:
        FileNotFoundError: if there is nothing in the folder.
        ValueError: if there are problems.
    """
    if wrong := wrong_knob({name: knobs[name] for name in LOOKED_AT if name in knobs}):
        raise ValueError(wrong if profile is None else f"{profile}: {wrong}")
    cases, problems, layout = find_cases(root, knobs.get("image_glob"), knobs.get("label_glob"))
    problems = problems or shared_cases(cases, root)
    run = _read_all(root, cases, knobs)
    if not problems:
        problems, notes = _patients(root, cases, knobs, run.volumes)
        run.notes += notes
    problems = [*problems, *run.problems, *_spacing_problems(run.spacings)]
    if profile is not None:
        problems += [Problem(profile, what) for what in _absent_classes(run.voxels, knobs)]
    print(f"layout: {layout}")
    for value, count in sorted(run.voxels.items()):
        print(f"label value {value}: {count} voxels{_lacking(run.values, value)}")
    if len(cases) == 1:
        run.notes.append(Problem(root, "holds one case, which leaves nothing to validate on in a training"))
    _print_all(run.notes, root, "note: ")
    _print_all(problems, root)
    if problems:
        raise ValueError(f"{len(problems)} problem{'s' * (len(problems) > 1)} in {root}; correct what is listed above")
    print(f"{len(cases)} cases: ready")


def _print_all(problems: Sequence[Problem], root: Path, head: str = "") -> None:
    """Print a line for each problem after a head, of one kind no more than MOST_LINES."""
    counts = Counter(_kind(problem) for problem in problems)
    shown: Counter[str] = Counter()
    files = [str(below(problem.path, root)) for problem in problems]
    width = max(map(len, files), default=0)
    for file, problem in zip(files, problems, strict=True):
        kind = _kind(problem)
        shown[kind] += 1
        if shown[kind] <= MOST_LINES:
            print(f"{head}{file:{width}}  {problem.what}")
        if shown[kind] == MOST_LINES < counts[kind]:
            print(f"{head}{'':{width}}  ... and {counts[kind] - MOST_LINES} more of this kind")


def _kind(problem: Problem) -> str:
    """Return the words that problems of one kind begin with, numbers and names left out."""
    return " ".join(word for word in problem.what.split()[:KIND_WORDS] if word.isalpha())


def _read_all(root: Path, cases: Sequence[Case], knobs: Mapping[str, Any]) -> _Check:
    """Read one case at a time."""
    run = _Check(root, knobs)
    for case in tqdm(cases, desc="check", unit="case", disable=None):
        run.case(case)
    return run


def _patients(
    root: Path, cases: Sequence[Case], knobs: Mapping[str, Any], volumes: Mapping[str, float]
) -> tuple[list[Problem], list[Problem]]:
    """Return the cases to validate on whose patient is trained on, and a note of pairs that look like one patient."""
    images, file = {case.name: case.image for case in cases}, root / PATIENTS
    try:
        patients = find_patients(root, images)
    except ValueError as error:  # one problem among others
        return [Problem(file, str(error).removeprefix(f"{file} "))], []
    try:
        split = _given_split(root, cases, knobs)
    except (ValueError, FileNotFoundError) as error:
        return [Problem(root, str(error))], []
    if patients is not None:
        shared = {} if split is None else shared_patients(patients.groups, *split)
        what = "is to validate on, but {} of the same patient is to train on"
        return [Problem(images[name], what.format(below(images[other], root))) for name, other in shared.items()], []
    alike = alike_neighbours(volumes)
    if alike is None or (split is not None and not alike.divided_by(*split)):
        return [], []
    return [], [Problem(root, f"{alike.what}: {alike.why}")]


def _given_split(
    root: Path, cases: Sequence[Case], knobs: Mapping[str, Any]
) -> tuple[Collection[str], Collection[str]] | None:
    """Return the cases to train on and those to validate on where a profile or the data set say which."""
    split = (
        any(case.section == VALIDATION for case in cases) or (root / SPLITS).exists() or (root / SPLITS).is_symlink()
    )
    if (not knobs and not split) or knobs.get("fold") == ALL:
        return None
    given = {key: knobs[key] for key in ("fold", "folds_file", "image_glob", "label_glob") if key in knobs}
    training, validation = (
        {case["case"] for case in segmentation_data_list(root, part, **given)} for part in ("training", "validation")
    )
    return training, validation


def _absent_classes(voxels: Mapping[int, int], knobs: Mapping[str, Any]) -> list[str]:
    if "label_names" not in knobs:
        return []
    names, regions = knobs["label_names"], knobs.get("regions")
    values = class_values(names, knobs.get("label_values"))[1:] if regions is None else region_values(names, regions)
    return [
        f"names the class {name} (label value {', '.join(map(str, entry))}), which no label holds"
        for name, entry in zip(names[1:], values, strict=True)
        if not any(voxels.get(value) for value in entry)
    ]


def _lacking(values: Mapping[Path, set[int]], value: int) -> str:
    lacking = [name for name, held in values.items() if value not in held]
    return f", absent from {len(lacking)} of {len(values)} cases, such as {lacking[0]}" if lacking else ""


class _Check:
    """What has been found so far; the volumes of a case are gone when the next is read."""

    def __init__(self, root: Path, knobs: Mapping[str, Any]) -> None:
        self.root = root
        self.in_channels: int | None = knobs.get("in_channels")
        self.named: list[Any] = [knobs.get(key) for key in ("label_names", "label_values", "regions")]
        self.classes = None if self.named[0] is None else class_values(*self.named)
        self.ignore_value: int | None = knobs.get("ignore_value")
        if self.classes is not None:
            check_ignore_value(self.ignore_value, *self.named)
        index = read_index(root)
        self.channel_names = channel_names(index)
        self.values_of_index = named_values(index)
        named = {} if label_regions(index) else named_labels(index)
        background = [background_value(named)] if self.classes is None else self.classes[0]
        self.of_no_class = {*background, self.ignore_value, ignored_label(index)}
        self.problems: list[Problem] = []
        self.notes: list[Problem] = []
        self.voxels: Counter[int] = Counter()
        self.values: dict[Path, set[int]] = {}
        self.volumes: dict[str, float] = {}
        self.spacings: dict[Path, torch.Tensor] = {}
        self.seen: dict[bytes, Path] = {}

    def case(self, case: Case) -> None:
        volumes: list[MetaTensor] = []
        for path, files in ((case.image, case.images), (case.label, case.label)):
            try:
                volumes.append(read_volume(files, labels=path == case.label))
            except ValueError as error:
                culprit = next((file for file in files_of(files) if str(error).startswith(f"{file} ")), path)
                self.problems.append(Problem(culprit, str(error).removeprefix(f"{culprit} ")))
        if len(volumes) == 2:
            self.problems += [Problem(case.image, what) for what in self._image(volumes[0], case.image)]
            self.problems += [Problem(case.label, what) for what in self._label(volumes[1], volumes[0], case)]

    def _image(self, image: MetaTensor, path: Path) -> list[str]:
        self.in_channels = self.in_channels or len(self.channel_names) or image.shape[0]
        found = image_problems(image, self.in_channels)
        self.notes += [Problem(path, note) for note in image.meta[NOTES]]
        digest = hashlib.sha256(image.as_tensor().contiguous().numpy().data).digest()
        if self.seen.setdefault(digest, path) != path:
            found.append(f"same voxels as {below(self.seen[digest], self.root)}")
        self.spacings[path] = _spacing(image)
        return found

    def _of_index(self, values: Collection[int]) -> list[str]:
        """Return which value no entry of ``dataset.json`` names, or is below zero where none is named."""
        unnamed = sorted(set(values) - self.values_of_index)
        if self.values_of_index and unnamed:
            return [f"holds the label value {unnamed[0]}, which {INDEX} does not name; add it to its labels"]
        return negative_problems(values, self.values_of_index)

    def _label(self, label: MetaTensor, image: MetaTensor, case: Case) -> list[str]:
        values, counts = (tensor.tolist() for tensor in torch.unique(label.as_tensor(), return_counts=True))
        labelled = set(values) - {self.ignore_value}
        wrong = self._of_index(labelled) if self.named[0] is None else value_problems(labelled, *self.named)
        if not wrong and is_empty(labelled, self.classes):
            wrong = ["is all background"]
        if len(values) <= MOST_VALUES:
            voxels = dict(zip(values, counts, strict=True))
            self.voxels.update(voxels)
            self.volumes[case.name] = label_volume(voxels, self.of_no_class, _spacing(label).tolist())
            self.values[below(case.label, self.root)] = set(values)
        return [*grid_problems(grid_of(label), grid_of(image), below(case.image, self.root)), *wrong]


def _spacing(volume: MetaTensor) -> torch.Tensor:
    return torch.as_tensor(volume.affine)[:3, :3].norm(dim=0)


def _spacing_problems(spacings: Mapping[Path, torch.Tensor]) -> list[Problem]:
    if not spacings:
        return []
    median = torch.stack(list(spacings.values())).median(dim=0).values
    return [
        Problem(path, f"has spacing {[round(s, 3) for s in spacing.tolist()]} mm where the median is {median.tolist()}")
        for path, spacing in spacings.items()
        if bool(((spacing / median > SPACING_FACTOR) | (median / spacing > SPACING_FACTOR)).any())
    ]
