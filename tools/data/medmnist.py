"""3D sets of MedMNIST as folders of NIfTI patches with a CSV file of classes."""

from __future__ import annotations

import csv
import hashlib
import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from custom_networks.files import new_folder

SPLITS = {"train": "training", "val": "validation", "test": "test"}
"""MedMNIST's names of the splits and ours."""


@dataclass(frozen=True)
class Source:
    """Where a set comes from.

    Args:
        folder: name of the folder that it is converted to.
        url: its npz file.
        md5: checksum of that file.
        label_names: names of the classes.
        licence: its licence.
        reference: what to cite.
    """

    folder: str
    url: str
    md5: str
    label_names: tuple[str, ...]
    licence: str
    reference: str


SETS = {
    "adrenalmnist3d": Source(
        folder="AdrenalMNIST3D",
        url="https://zenodo.org/records/10519652/files/adrenalmnist3d.npz?download=1",
        md5="bbd3c5a5576322bc4cdfea780653b1ce",
        label_names=("normal", "hyperplasia"),
        licence="CC BY 4.0",
        reference="Yang et al. 2023, MedMNIST v2, doi:10.1038/s41597-022-01721-8",
    ),
}


def description(name: str, md5: str, label_names: Sequence[str]) -> dict[str, Any]:
    """Return what ``source.json`` says of a converted set.

    Args:
        name: set's name, such as ``adrenalmnist3d``.
        md5: checksum of the npz file.
        label_names: names of the classes.
    """
    source = SETS.get(name)
    return {
        "name": name,
        "md5": md5,
        "label_names": list(label_names),
        "geometry": "identity affine: the file gives neither voxel size nor orientation",
        "licence": source.licence if source else "see https://medmnist.com",
        "reference": source.reference if source else "see https://medmnist.com",
    }


def is_complete(folder: Path, expected: dict[str, Any]) -> bool:
    """Tell whether ``folder`` holds the set described, with every patch that its CSV file lists.

    Args:
        folder: a converted set.
        expected: what :func:`description` returns.
    """
    try:
        found = json.loads((folder / "source.json").read_text())
        with (folder / "labels.csv").open(newline="") as file:
            images = [row["image"] for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError):
        return False
    return found == expected and bool(images) and all((folder / image).is_file() for image in images)


def read_array(archive: np.lib.npyio.NpzFile, key: str, file: Path) -> np.ndarray:
    """Read one array of an npz file.

    Args:
        archive: the open file.
        key: name of the array.
        file: path, for the error.

    Raises:
        ValueError: if the array is missing or damaged.
    """
    try:
        array: np.ndarray = archive[key]
    except KeyError as error:
        raise ValueError(f"{file} holds no {key}; give a 3D npz file of MedMNIST") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise ValueError(f"{key} of {file} is damaged ({error}); download the file again") from error
    return array


def read_labels(archive: np.lib.npyio.NpzFile, split: str, file: Path) -> np.ndarray:
    """Read the classes of one split.

    Args:
        archive: the open file.
        split: MedMNIST's name of the split.
        file: path, for the error.

    Returns:
        ``(N,)`` class indices.

    Raises:
        ValueError: if there is not one class index per case.
    """
    labels = read_array(archive, f"{split}_labels", file)
    if (
        labels.dtype.kind not in "ui"
        or labels.ndim not in (1, 2)
        or labels.size != len(labels)
        or labels.min(initial=0) < 0
    ):
        raise ValueError(
            f"{split}_labels of {file} has the shape {labels.shape} and the type {labels.dtype}; give a file with one "
            "class number per case"
        )
    return labels.reshape(-1)


def read_images(archive: np.lib.npyio.NpzFile, split: str, cases: int, file: Path) -> np.ndarray:
    """Read the patches of one split.

    Args:
        archive: the open file.
        split: MedMNIST's name of the split.
        cases: number of cases expected.
        file: path, for the error.

    Returns:
        ``(N, S, S, S)``, uint8.

    Raises:
        ValueError: if these are not so many uint8 cubes.
    """
    images = read_array(archive, f"{split}_images", file)
    if images.dtype != np.uint8 or images.ndim != 4 or len(set(images.shape[1:])) != 1:
        raise ValueError(
            f"{split}_images of {file} has the shape {images.shape} and the type {images.dtype}, not that of uint8 "
            "cubes; give a file of one of MedMNIST's 3D sets"
        )
    if len(images) != cases:
        raise ValueError(f"{file} holds {len(images)} {split}_images but {cases} {split}_labels; download it again")
    return images


def convert(npz: str, output_dir: str, label_names: str | Sequence[str] | None = None) -> Path:
    """Write a 3D set of MedMNIST as one NIfTI patch per case and a CSV file of classes.

    ``images/train_0000.nii.gz`` and so on are uint8, numbered as in the file. Their affine is the identity, since the
    file gives neither voxel size nor orientation. ``labels.csv`` has the columns image, label (name of the class) and
    split (training, validation or test); ``source.json`` names the source. A split that the file lacks is left out.

    Args:
        npz: ``<set>.npz`` or ``<set>_<anything>.npz`` of any of the 3D sets and of any size.
        output_dir: folder to create; nothing is done where the set is there already.
        label_names: names of the classes in their order, comma separated; by default those of AdrenalMNIST3D, and the
            numbers 0, 1, ... in other sets.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not a 3D set of MedMNIST, or ``output_dir`` holds something else.

    Cost:
        Memory of the largest split.

    References:
        Yang et al. 2023, doi:10.1038/s41597-022-01721-8.
    """
    file, target = Path(npz), Path(output_dir)
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}; give an npz file of MedMNIST")
    if not zipfile.is_zipfile(file):
        raise ValueError(f"{file} is no npz file or is cut off; download it again")
    with np.load(file, allow_pickle=False) as archive:
        splits = [split for split in SPLITS if f"{split}_images" in archive]
        if not splits:
            raise ValueError(f"{file} holds no train_images, val_images or test_images; give an npz file of MedMNIST")
        labels = {split: read_labels(archive, split, file) for split in splits}
        name = file.stem.split("_")[0]
        names = class_names(label_names, name, 1 + max(int(own.max(initial=0)) for own in labels.values()), file)
        expected = description(name, hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest(), names)
        if is_complete(target, expected):
            print(f"{file.name} is already in {target}")
            return target
        with new_folder(target, f"the converted {file.name}") as folder:
            (folder / "images").mkdir()
            rows = []
            for split in splits:
                images = read_images(archive, split, len(labels[split]), file)
                for i, (image, label) in enumerate(zip(images, labels[split], strict=True)):
                    path = f"images/{split}_{i:04d}.nii.gz"
                    nib.save(nib.Nifti1Image(image, np.eye(4)), folder / path)
                    rows.append((path, names[label], SPLITS[split]))
            with (folder / "labels.csv").open("w", newline="") as table:
                csv.writer(table, lineterminator="\n").writerows([("image", "label", "split"), *rows])
            (folder / "source.json").write_text(json.dumps(expected, indent=2) + "\n")
    counts = ", ".join(f"{len(labels[split])} {SPLITS[split]}" for split in splits)
    print(f"{counts} patches of {name} are in {target}. Licence: {expected['licence']}")
    return target


def class_names(given: str | Sequence[str] | None, name: str, classes: int, file: Path) -> list[str]:
    """Return the names of the classes: those given, those known of the set, or numbers.

    Args:
        given: names, comma separated or a sequence.
        name: set's name.
        classes: number of classes that the file needs.
        file: path, for the error.

    Raises:
        ValueError: if the names are too few, or two of them are the same.
    """
    if given is not None:
        names = read_names(given)
    else:
        names = list(SETS[name].label_names) if name in SETS else [str(k) for k in range(classes)]
    if len(names) < classes or len(set(names)) < len(names) or "" in names:
        raise ValueError(
            f"{file} has {classes} classes, but label_names is {', '.join(names)}; give one name of its own per class"
        )
    return names


def read_names(names: str | Sequence[Any]) -> list[str]:
    """Return names given on the command line as a list of words.

    Args:
        names: comma separated, or a sequence, which fire makes of ``normal,hyperplasia`` or ``0,1``.
    """
    return [str(name).strip() for name in (names.split(",") if isinstance(names, str) else names)]
