"""What a folder is that holds no cases as they are needed, and what to do with it, in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from custom_networks.files import ARCHIVES
from custom_networks.workflow.data.cases import SUFFIXES, TRAINING
from custom_networks.workflow.data.layouts.files import (
    INDEX,
    has_image_name,
    is_image_file,
    is_series,
    scan,
)
from custom_networks.workflow.data.layouts.paired import FOLDERS, how_to_give

IMAGES, LABELS = FOLDERS
SCANS = ("ct.nii.gz", "mri.nii.gz")
MASKS = "segmentations"
# what else people keep images in; a folder is not walked further than so many folders to find them
OTHERS = (".mgz", ".mgh", ".img", ".hdr", ".mnc", ".tif", ".tiff", ".png", ".jpg", ".npy", ".npz", ".h5", ".mat")
LOOKED_AT = 1000


def name_it(root: Path) -> str:
    """Return what a folder is in which no layout was recognised, and what to do.

    Args:
        root: the folder.
    """
    for look in LOOKS:
        if words := look(root):
            return f"{root} {words}"
    ways = "give patterns: --images and --labels of check and adapt, the knobs image_glob and label_glob"
    if (root / INDEX).is_file():
        return (
            f"{root / INDEX} has no case in {TRAINING!r} and there is no image in {root / IMAGES}; add at least one "
            f"case, or {ways}"
        )
    return (
        f"there is no {root / INDEX}; set dataset_dir to a Decathlon folder, or to one with {IMAGES} and {LABELS}, or "
        f"{ways}"
    )


def _half(root: Path) -> str | None:
    there = [folder for folder in FOLDERS if (root / folder).is_dir()]
    if len(there) != 1:
        return None
    if there[0] == IMAGES:
        return f"has {IMAGES} but no {LABELS}; put the labels there, or give a pattern for them: --labels, label_glob"
    return f"has {LABELS} but no {IMAGES}; put the images there, or give a pattern for them: --images, image_glob"


def _total_segmentator(root: Path) -> str | None:
    for folder in _folders(root):
        scans = [name for name in SCANS if (folder / name).is_file()]
        if scans and (folder / MASKS).is_dir():
            return (
                f"is a folder of TotalSegmentator, with one mask per class in {folder.name}/{MASKS}; merge the masks "
                f"of each case into one file of class values, and give patterns, "
                f"{how_to_give(f'*/{scans[0]}', '*/labels.nii.gz')}"
            )
    return None


def _preprocessed(root: Path) -> str | None:
    names = {path.name for path in scan(root)}
    if "dataset_fingerprint.json" in names or any(name.endswith("Plans.json") for name in names):
        return (
            "holds data that nnU-Net has preprocessed, cropped and resampled; give the folder of the same data set in "
            "nnUNet_raw"
        )
    return None


def _several(root: Path) -> str | None:
    inside = [path.name for path in _folders(root) if (path / INDEX).is_file() or (path / IMAGES).is_dir()]
    return f"holds data sets; give one of them, such as {root / inside[0]}" if inside else None


def _packed(root: Path) -> str | None:
    packed = [path.name for path in scan(root) if path.name.lower().endswith(ARCHIVES)]
    others = [path for path in scan(root) if path.is_dir() or has_image_name(path)]
    return f"holds {packed[0]}, a packed file; unpack it" if packed and not others else None


def _series(root: Path) -> str | None:
    series = next((folder for folder in islice(_walk(root), LOOKED_AT) if is_series(folder)), None)
    if series is None:
        return None
    return (
        f"holds DICOM series, such as {series}, and no labels beside them; put each series in a folder {IMAGES}/<case> "
        f"and its label in {LABELS}/<case>.nii.gz, or convert them with dcm2niix"
    )


def _flat(root: Path) -> str | None:
    images = [path.name for path in scan(root) if is_image_file(path)]
    if not images:
        return None
    return (
        f"holds {len(images)} images and no folder of labels; put images in {IMAGES} and labels in {LABELS}, or give "
        f"patterns, {how_to_give('*_img.nii.gz', '*_mask.nii.gz')}"
    )


def _other_formats(root: Path) -> str | None:
    files = (path for folder in islice(_walk(root), LOOKED_AT) for path in scan(folder) if path.is_file())
    other = next((path for path in files if path.name.lower().endswith(OTHERS)), None)
    return None if other is None else f"holds {other.relative_to(root)}; {how_to_convert()}"


def how_to_convert() -> str:
    """Return which formats are read and how to make them of others."""
    return (
        f"what is read is {', '.join(SUFFIXES)} and DICOM: convert the files, for example with mri_convert of "
        f"FreeSurfer (.mgz), nibabel.load and nibabel.save (.img, .mnc), or 3D Slicer"
    )


def _folders(root: Path) -> list[Path]:
    return [path for path in scan(root) if path.is_dir()]


def _walk(root: Path) -> Iterator[Path]:
    """Give the folder and the folders in it, three floors down: patient, study, series."""
    floor = [root]
    for _ in range(4):
        yield from floor
        floor = [inside for folder in floor for inside in _folders(folder)]


# the first that knows the folder says what it is
LOOKS: tuple[Callable[[Path], str | None], ...] = (
    _half,
    _total_segmentator,
    _preprocessed,
    _several,
    _packed,
    _series,
    _flat,
    _other_formats,
)
