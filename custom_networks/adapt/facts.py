"""What a folder of images and labels holds: sizes from the headers, classes and intensities from the voxels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from tqdm import tqdm

from custom_networks.adapt.labels import (
    background_value,
    channel_names,
    check_ignore,
    check_labels,
    classes_by_name,
    ignored_label,
    in_one_piece,
    label_regions,
    label_volume,
    named_labels,
    named_values,
)
from custom_networks.workflow.data.cases import VALIDATION, Files, files_of, refuse, shared_cases
from custom_networks.workflow.data.formats.grid import Grid
from custom_networks.workflow.data.headers import in_ras
from custom_networks.workflow.data.image_checks import voxel_problems
from custom_networks.workflow.data.label_checks import grid_problems, negative_problems
from custom_networks.workflow.data.layouts.files import INDEX, read_index
from custom_networks.workflow.data.layouts.finder import find_cases
from custom_networks.workflow.data.volumes import read_grid, read_volume
from custom_networks.workflow.transforms.intensity import Z_SCORE, Z_SCORE_NONZERO

CT = re.compile(r"\bcta?\b", re.IGNORECASE)
# air has -1000 HU; no other modality goes as low, as long as it is not rescaled
CT_MINIMUM = -500
LOOKED_AT = 3
# share of zeros from which they are no part of what was imaged, the complement of nnU-Net's 3/4
MOST_ZEROS = 0.25
# per case and channel, as many as nnU-Net takes
SAMPLES = 10_000
CT_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class Header:
    """One image by its header.

    Args:
        path: the file, the first of several channels.
        grid: its voxels as stored.
        shape: voxels along the axes of RAS.
        spacing: mm per voxel along the axes of RAS.
        axes: the orientation that it is stored in, such as LPS.
    """

    path: Path
    grid: Grid
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    axes: str

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.grid.channels


@dataclass(frozen=True)
class Facts:
    """What a segmentation data set is.

    Args:
        root: its folder.
        name: its name in ``dataset.json``, or that of the folder.
        layout: how the cases were found, in words.
        image_glob: pattern of the images that was given, ``None`` if none was.
        label_glob: the same for the labels.
        split: whether ``dataset.json`` lists a validation set.
        names: the names of the cases.
        images: the images of the cases by their headers, those of several channels by the first file.
        channels: names of the channels.
        intensity: one entry per channel, as the knob of that name takes them.
        zeros: share of voxels that are zero per channel, the median of the images looked at.
        source: where names and intensities come from, in words.
        classes: label values by the name of their class, or region, the background first.
        regions: whether these are regions, which share values.
        ignore_value: label value of voxels without a label, which is in none of the following.
        ignored: number of these voxels.
        voxels: number of voxels by label value.
        cases: label values that each label holds.
        volumes: ml that each label has of classes.
        in_one_piece: whether every class is connected in every label, but for stray voxels.
    """

    root: Path
    name: str
    layout: str
    image_glob: str | None
    label_glob: str | None
    split: bool
    names: Sequence[str]
    images: Sequence[Header]
    channels: Sequence[str]
    intensity: Sequence[str | Mapping[str, Any]]
    zeros: Sequence[float]
    source: str
    classes: Mapping[str, Sequence[int]]
    regions: bool
    ignore_value: int | None
    ignored: int
    voxels: Mapping[int, int]
    cases: Sequence[Set[int]]
    volumes: Sequence[float]
    in_one_piece: bool


def read_headers(images: Sequence[Files]) -> list[Header]:
    """Read the headers of images.

    Args:
        images: files, folders of DICOM series, or one file per channel.

    Raises:
        ValueError: if one cannot be read, or is no 3D image.
    """
    headers = []
    for image in images:
        found = read_grid(image)
        axes = "".join(nibabel.aff2axcodes(found.affine))
        headers.append(Header(files_of(image)[0], found, *in_ras(found.shape, found.affine), axes))
    return headers


def read_facts(root: Path, image_glob: str | None = None, label_glob: str | None = None) -> Facts:
    """Look at a segmentation data set: every header, every label, and the images where their intensities count.

    Args:
        root: its folder.
        image_glob: pattern under it for images, see
            :func:`custom_networks.workflow.data.layouts.finder.find_cases`.
        label_glob: the same for labels.

    Raises:
        FileNotFoundError: if there is nothing.
        ValueError: if the files contradict each other.

    Cost:
        Three images for zeros and least intensity, then one label at a time, and beside it an image where it is CT.
    """
    cases, problems, layout = find_cases(root, image_glob, label_glob)
    refuse(problems + shared_cases(cases, root))
    cases = sorted(cases, key=lambda case: case.image)
    index = read_index(root)
    images = read_headers([case.images for case in cases])
    labels = read_headers([case.label for case in cases])
    for image, label in zip(images, labels, strict=True):
        _check_pair(image, label, images[0])
    lowest, zeros = _first_look([case.images for case in cases])
    channels, ct, source = _modalities(index, images, lowest)
    regions = label_regions(index)
    named = {} if regions else named_labels(index)
    ignore_value, ignored = ignored_label(index), 0
    background = background_value(named)
    voxels: Counter[int] = Counter()
    holding: list[Set[int]] = []
    volumes: list[float] = []
    samples: list[list[np.ndarray]] = [[] for _ in channels]  # filled where any channel is CT
    connected, chance = True, np.random.default_rng(0)

    def classes_of(values: Collection[int]) -> Mapping[str, list[int]]:
        return regions or classes_by_name(named, values, background)

    check_ignore(ignore_value, classes_of(()), bool(regions))
    for case, header in zip(tqdm(cases, desc="adapt", unit="case", disable=None), labels, strict=True):
        values = read_volume(case.label, labels=True).as_tensor().numpy()[0]
        counts = {int(value): int(n) for value, n in zip(*np.unique(values, return_counts=True), strict=True)}
        if wrong := negative_problems(counts, named_values(index)):
            raise ValueError(f"{case.label} {wrong[0]}")
        if ignore_value is not None:
            ignored += counts.pop(ignore_value, 0)
        # after the first class in several pieces there is nothing to look for
        connected = connected and all(in_one_piece(values, own) for own in list(classes_of(counts).values())[1:])
        inside = _foreground(values, background, ignore_value) if any(ct) else np.empty(0)
        del values  # before the image comes
        voxels.update(counts)
        holding.append(set(counts))
        volumes.append(label_volume(counts, {background}, header.spacing))
        if any(ct):
            inside = inside if len(inside) <= SAMPLES else chance.choice(inside, SAMPLES, replace=False)
            for sample, channel in zip(samples, _values_at(case.images, inside), strict=True):
                sample.append(channel)
    classes = classes_of(voxels)
    check_labels(classes, voxels, root)
    return Facts(
        root=root,
        name=str(index.get("name") or root.resolve().name),
        layout=layout,
        image_glob=image_glob,
        label_glob=label_glob,
        split=any(case.section == VALIDATION for case in cases),
        names=[case.name for case in cases],
        images=images,
        channels=channels,
        intensity=[
            _scheme(np.concatenate(own)) if is_ct else Z_SCORE_NONZERO if share > MOST_ZEROS else Z_SCORE
            for own, is_ct, share in zip(samples, ct, zeros, strict=True)
        ],
        zeros=zeros,
        source=source,
        classes=classes,
        regions=bool(regions),
        ignore_value=ignore_value,
        ignored=ignored,
        voxels=voxels,
        cases=holding,
        volumes=volumes,
        in_one_piece=connected,
    )


def _foreground(label: np.ndarray, background: int, ignore_value: int | None) -> np.ndarray:
    """Return the places of what is labelled as something else than background."""
    inside = label != background
    if ignore_value is not None:
        inside &= label != ignore_value
    return np.flatnonzero(inside)


def _values_at(image: Files, places: np.ndarray) -> list[np.ndarray]:
    """Return intensities of each channel, and let go of the image."""
    return [channel.reshape(-1)[places] for channel in finite_voxels(image)]


def _check_pair(image: Header, label: Header, first: Header) -> None:
    if image.channels != first.channels:
        raise ValueError(
            f"{image.path} has {image.channels} channels but {first.path} {first.channels}; give all the same channels"
        )
    if problems := grid_problems(label.grid, image.grid, image.path):
        raise ValueError(f"{label.path} {problems[0]}")


def _first_look(images: Sequence[Files]) -> tuple[list[float], list[float]]:
    """Return of each channel the least intensity and the median share of zeros in the first few images."""
    found = [_extremes(finite_voxels(image)) for image in images[:LOOKED_AT]]
    lowest, zeros = zip(*found, strict=True)
    return np.min(lowest, axis=0).tolist(), np.median(zeros, axis=0).tolist()


def _extremes(channels: np.ndarray) -> tuple[list[float], list[float]]:
    return [float(channel.min()) for channel in channels], [float((channel == 0).mean()) for channel in channels]


def _modalities(
    index: Mapping[str, Any], images: Sequence[Header], lowest: Sequence[float]
) -> tuple[list[str], list[bool], str]:
    """Return the names of the channels, which of them are CT, and where that is said."""
    names = channel_names(index)
    channels = images[0].channels
    if names:
        if len(names) != channels:
            raise ValueError(
                f"{INDEX} names {len(names)} channels ({', '.join(names)}) but {images[0].path} has {channels}; "
                "correct its entry modality"
            )
        return names, [bool(CT.search(name)) for name in names], INDEX
    ct = [value < CT_MINIMUM for value in lowest]
    words = " and ".join(f"{value:.4g}" for value in lowest)
    return (
        ["CT" if is_ct else "MR or other" for is_ct in ct],
        ct,
        f"guessed from the least intensity, {words}; an entry modality in {INDEX} says it for certain",
    )


def finite_voxels(image: Files) -> np.ndarray:
    """Return the channels of a volume, ``(C, *S)``.

    Args:
        image: the file, or the files of its channels.

    Raises:
        ValueError: if it cannot be read or holds NaN or infinity.
    """
    volume = read_volume(image)
    if problems := voxel_problems(volume):
        raise ValueError(f"{files_of(image)[0]} {problems[0]}")
    return volume.as_tensor().numpy()


def _scheme(values: np.ndarray) -> dict[str, Any]:
    """Return clipping and statistics of the intensities inside the foreground, as nnU-Net takes them for CT."""
    low, high = np.percentile(values, CT_PERCENTILES)
    return {
        "clip": [_rounded(low), _rounded(high)],
        "mean": _rounded(values.mean()),
        "std": max(_rounded(values.std()), 1e-3),
    }


def _rounded(value: float) -> float:
    return round(float(value), 3)
