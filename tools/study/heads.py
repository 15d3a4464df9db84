"""Whole heads of another study: where bundles see the structures of a head, beside what others have drawn."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from ignite.engine import Events
from monai.bundle import ConfigWorkflow

from custom_networks.bundle_folder import find_bundle
from custom_networks.files import data_folder, read_json, write_text
from custom_networks.workflow.data.cases import Case, refuse
from custom_networks.workflow.data.layouts.finder import find_cases
from custom_networks.workflow.locate.grids import apply
from custom_networks.workflow.locate.head_labels import head_label_names
from custom_networks.workflow.report.head_facts import structures_of_head
from custom_networks.workflow.report.overlay import dice
from tools.recipes.formatting import to_json
from tools.recipes.head_figures import RECORD
from tools.recipes.render import render
from tools.study.poses import POSES, Change
from tools.study.runs import device_name

if TYPE_CHECKING:
    from custom_networks.workflow.locate.head_inferer import Found
    from custom_networks.workflow.locate.regions import Crop

CONFIG = "configs/inference_head.json"
STRUCTURE = "Hippocampus"
"""What lies in every place of the bundles; its labels are named after the place, a hyphen and this."""
DIGITS = 5
GRID_TOLERANCE = 1e-3
"""Greatest difference in mm of two affines that are the same but for the float32 of a file."""


def heads(*bundles: str, dataset_dir: str) -> None:
    """Segment the whole heads of a data set, compare with its labels, and put the figures in the READMEs.

    The labels hold whole structures, ``Left-Hippocampus`` and ``Right-Hippocampus``: all classes of a place together
    are compared with the one of its name. Every head is segmented as it is, and turned, moved, stored with its axes in
    another order and with thicker slices, on the CPU.

    Args:
        bundles: names or folders of bundles that segment whole heads.
        dataset_dir: folder of a data set of NIfTI files whose ``dataset.json`` names the labels, and has the entries
            "description" and "licence".

    Raises:
        ValueError: if no bundle is given, one does not segment whole heads, ``dataset.json`` lacks what is needed, a
            case has none of a structure, or a head is refused.
        FileNotFoundError: if there is no data set.
    """
    if not bundles:
        raise ValueError(f"no bundle given; name one or more of those with {CONFIG}")
    folders = [find_bundle(name) for name in bundles]
    if others := [folder.name for folder in folders if not (folder / CONFIG).is_file()]:
        raise ValueError(f"{others[0]} has no {CONFIG}, so it segments no whole heads; leave it out")
    root = data_folder(dataset_dir)
    index = _index(root)
    cases, problems, _ = find_cases(root)
    refuse(problems)
    places = {folder: [place["name"] for place in read_json(folder / CONFIG)["places"]] for folder in folders}
    values = {folder: _reference_values(index, names, root) for folder, names in places.items()}
    for case in cases:
        _check(case, {place: value for one in values.values() for place, value in one.items()})
    for folder in folders:
        poses = {}
        for name, change in POSES.items():
            poses[name] = measure(folder, cases, values[folder], change)
            print(f"{folder.name} {name}: {len(cases)} heads", flush=True)
        record = {
            "dataset": index.get("name", root.name),
            "description": index["description"],
            "licence": index["licence"],
            "structure": STRUCTURE,
            "poses": poses,
            "versions": {package: version(package) for package in ("custom_networks", "torch", "monai", "SimpleITK")},
            "machine": device_name(),
        }
        write_text(folder / RECORD, to_json(record) + "\n")
        print(f"written: {folder / RECORD}")
    render()


def _index(root: Path) -> dict[str, Any]:
    """Return ``dataset.json``, which must say what the README says of the data."""
    file = root / "dataset.json"
    if not file.is_file():
        raise ValueError(f"{root} has no dataset.json, which names the labels; give a data set in Decathlon layout")
    index = read_json(file)
    if missing := [key for key in ("description", "licence", "labels") if not index.get(key)]:
        raise ValueError(f"{file} has no {missing[0]}, which the README needs; add it")
    return index


def _reference_values(index: Mapping[str, Any], places: Sequence[str], root: Path) -> dict[str, int]:
    """Return the value of the structure in the labels by place."""
    named = {name: int(value) for value, name in index["labels"].items()}
    names = {place: f"{place}-{STRUCTURE}" for place in places}
    if missing := [name for name in names.values() if name not in named]:
        raise ValueError(f"the labels of {root / 'dataset.json'} are {', '.join(named)}; one must be {missing[0]}")
    return {place: named[name] for place, name in names.items()}


def _check(case: Case, values: Mapping[str, int]) -> None:
    """Refuse a label that is not on the grid of its image, or lacks a structure."""
    (label, stands), (image, affine) = _read(case.label), _read(case.image)
    if label.shape != image.shape or not np.allclose(stands, affine, atol=GRID_TOLERANCE):
        raise ValueError(f"{case.label} lies on another grid than its image {case.image}; resample it to the image")
    if missing := [place for place, value in values.items() if not (label == value).any()]:
        name = f"{missing[0]}-{STRUCTURE}"
        raise ValueError(f"{case.label} has no voxel of {name}, {values[missing[0]]}; leave the case out")


def measure(
    folder: Path, cases: Sequence[Case], values: Mapping[str, int], change: Change
) -> dict[str, dict[str, Any]]:
    """Return by case what a bundle sees in heads that were changed, beside labels that were changed alike.

    Args:
        folder: the bundle's folder.
        cases: the heads.
        values: value of the whole structure in the labels by place.
        change: see :data:`tools.study.poses.POSES`.

    Returns:
        For each place its ``dice``, ``reference_ml``, ``predicted_ml``, ``coverage``, the share of the reference in the
        crop that was laid first, and ``moved``, whether its border cut what was found; and the ``problems`` said.

    Raises:
        ValueError: if a head is refused.
    """
    with tempfile.TemporaryDirectory() as place:
        images, masks = Path(place, "images"), Path(place, "masks")
        images.mkdir()
        for case in cases:
            voxels, affine = _read(case.image)
            nib.save(nib.Nifti1Image(*change(voxels, affine, False)), images / f"{case.name}.nii.gz")
        found = _segment(folder, images, masks)
        classes = _classes(read_json(folder / CONFIG))
        return {
            case.name: _compare(case, values, classes, change, masks / f"{case.name}_seg.nii.gz", found[case.name])
            for case in cases
        }


def _classes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the values in the mask of a head that lie in a place, by its name."""
    places, names = config["places"], config["label_names"]
    structures = structures_of_head(places, head_label_names(places, names), names)
    return {structure.name: structure.values for structure in structures}


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the voxels of a file along axes of about RAS, float32, and their affine."""
    image = nib.as_closest_canonical(nib.load(path))
    if len(image.shape) != 3:
        raise ValueError(f"{path} has the shape {image.shape}; give one volume per file")
    return np.asarray(image.dataobj, dtype=np.float32), np.asarray(image.affine)


def _segment(folder: Path, images: Path, masks: Path) -> dict[str, Found]:
    """Write the masks of images, in this process, and return what was found in each by its name."""
    workflow = ConfigWorkflow(
        config_file=str(folder / CONFIG),
        workflow_type="inference",
        logging_file=False,
        bundle_root=str(folder),
        dataset_dir=str(images),
        output_dir=str(masks),
        device="cpu",
    )
    workflow.initialize()
    evaluator, inferer = (workflow.parser.get_parsed_content(name) for name in ("evaluator", "inferer"))
    found = {}

    @evaluator.on(Events.ITERATION_COMPLETED)
    def _note(engine: Any) -> None:
        image = engine.state.batch[0]["image"]
        found[Path(image.meta["filename_or_obj"]).name.removesuffix(".nii.gz")] = inferer.found

    workflow.run()
    workflow.finalize()
    return found


def _compare(
    case: Case,
    values: Mapping[str, int],
    classes: Mapping[str, Sequence[int]],
    change: Change,
    mask: Path,
    found: Found,
) -> dict[str, Any]:
    """Return what :func:`measure` says of one case."""
    label, stands = _read(case.label)
    file = nib.Nifti1Image.from_filename(mask)
    seen, affine = np.asarray(file.dataobj), np.asarray(file.affine)
    millilitres = abs(np.linalg.det(affine[:3, :3])) / 1000
    moved = {crop.region.name: crop for crop in found.crops}
    result: dict[str, Any] = {}
    for crop in found.located.crops:
        place = crop.region.name
        reference = change((label == values[place]).astype(np.float32), stands, True)[0] > 0
        predicted = np.isin(seen, classes[place])
        figures = {
            "dice": dice(reference, predicted),
            "reference_ml": float(reference.sum() * millilitres),
            "predicted_ml": float(predicted.sum() * millilitres),
            "coverage": coverage(crop, apply(affine, np.argwhere(reference).astype(float))),
        }
        result[place] = {
            **{name: round(value, DIGITS) for name, value in figures.items()},
            "moved": not np.array_equal(crop.affine, moved[place].affine),
        }
    return {**result, "problems": found.problems}


def coverage(crop: Crop, points: np.ndarray) -> float:
    """Return the share of points that lie in a crop, whose outermost voxels count to their outer borders.

    Args:
        crop: the crop.
        points: ``(N, 3)``, mm of the image.
    """
    places = apply(np.linalg.inv(crop.affine), points)
    return float(((places >= -0.5) & (places <= np.array(crop.shape) - 0.5)).all(axis=1).mean())
