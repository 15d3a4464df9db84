"""The figures of whole heads are those of the masks and labels, in every pose, and the README says them."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from custom_networks.files import read_json
from custom_networks.workflow.data.layouts.finder import find_cases
from custom_networks.workflow.locate.regions import HIPPOCAMPI, Crop, Region
from custom_networks.workflow.locate.template import load_template
from tests.conftest import SHARED
from tests.synthetic import CLASSIFICATION, write_nifti
from tools.__main__ import main
from tools.recipes.bundles.hippocampus_mr_medical_transformer_segmentation import BUNDLE
from tools.recipes.head_figures import RECORD, describe_head_figures
from tools.study import heads as module
from tools.study.poses import AS_IT_IS, POSES

SOURCE = module.find_bundle(BUNDLE.name)
OASIS = SHARED / "data" / "OASIS12_1mm"
LABELS = {"0": "background", "1": "Left-Hippocampus", "2": "Right-Hippocampus"}
PLACES = ("Left", "Right")
RADII = np.array([9.0, 15.0, 9.0])
SCALES = {"first": (1.0, 0.92), "second": (0.85, 0.95)}
# bright voxels are a structure, the anterior half of the crop the first class
SEES_WHAT_IS_BRIGHT = (
    "$lambda crop, network: torch.cat([torch.zeros_like(crop), *(9 * (crop - 1.3) + sign * torch.linspace(-1, 1, "
    "crop.shape[3]).view(1, 1, 1, -1, 1) for sign in (1, -1))], 1)"
)


def index(labels=LABELS, **more):
    return {"name": "Heads", "description": "two brains", "licence": "none", "labels": labels, **more}


@pytest.fixture
def dataset(tmp_path):
    """Two brains of the template with a bright ellipsoid in place of each hippocampus, one larger than the other."""
    pytest.importorskip("SimpleITK")
    template = load_template()
    grid = np.stack(np.meshgrid(*map(np.arange, template.voxels.shape), indexing="ij"), -1)
    places = grid @ template.affine[:3, :3].T + template.affine[:3, 3]
    folder = tmp_path / "Heads"
    for name, scales in SCALES.items():
        image, label = template.voxels.copy(), np.zeros(template.voxels.shape, np.uint8)
        for value, (region, scale) in enumerate(zip(HIPPOCAMPI, scales, strict=True), start=1):
            label[(((places - region["point"]) / (scale * RADII)) ** 2).sum(-1) < 1] = value
        image[label > 0] = 2 * image.max()
        write_nifti(image, folder / "imagesTr" / f"{name}.nii.gz", template.affine)
        write_nifti(label, folder / "labelsTr" / f"{name}.nii.gz", template.affine)
    (folder / "dataset.json").write_text(json.dumps(index()))
    return folder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A bundle whose network is blind, and whose inferer sees what is bright."""
    target = tmp_path / SOURCE.name
    shutil.copytree(SOURCE, target, ignore=shutil.ignore_patterns("runs", "eval", "engines"))
    config = read_json(target / module.CONFIG)
    (target / module.CONFIG).write_text(json.dumps({**config, "crop_inferer": SEES_WHAT_IS_BRIGHT}))
    monkeypatch.setattr(module, "render", lambda: None)
    return target


def take(monkeypatch, *names):
    monkeypatch.setattr(module, "POSES", {name: POSES[name] for name in names})


def test_the_record_and_what_the_readme_says_of_it(folder, dataset, monkeypatch, capsys):
    poses = (AS_IT_IS, "looking aside by 15°")
    take(monkeypatch, *poses)
    assert describe_head_figures(BUNDLE, folder) == "## Another study's data\n\nNot measured yet.\n"
    assert main(["heads", str(folder), "--dataset_dir", str(dataset)]) == 0
    assert f"written: {folder / RECORD}" in capsys.readouterr().out
    record = json.loads((folder / RECORD).read_text())
    assert tuple(record["poses"]) == poses and record["dataset"] == "Heads"
    for name, cases in record["poses"].items():
        assert list(cases) == list(SCALES)
        for case, figures in cases.items():
            assert figures.pop("problems") == []
            for (place, found), scale in zip(figures.items(), SCALES[case], strict=True):
                volume = 4 / 3 * np.pi * (scale * RADII).prod() / 1000
                assert found["reference_ml"] == pytest.approx(volume, rel=0.06), (name, case, place)
                if name == AS_IT_IS:
                    assert found["dice"] == 1 and found["predicted_ml"] == found["reference_ml"]
                # voxels of 3 mm, and the interpolation of a pose, blur the border
                assert found["predicted_ml"] == pytest.approx(volume, rel=0.3), (name, case, place)
                assert found["dice"] > 0.88 and found["coverage"] > 0.99 and not found["moved"], (name, case, place)
    lines = describe_head_figures(BUNDLE, folder).splitlines()
    assert lines[2].startswith("2 whole heads of Heads (two brains; none: used for these figures, not for the weights)")
    assert "|  | Left | Right | both |" in lines
    assert "| as it is | 1.0000 |  | 1.0000 | 100.0 | 0 |" in lines
    assert sum(line.startswith("| looking aside by 15° | 0.9") for line in lines) == 1


def test_exchanged_sides_are_seen(folder, dataset):
    case = find_cases(dataset)[0][0]
    found = module.measure(folder, [case], {"Left": 2, "Right": 1}, POSES[AS_IT_IS])[case.name]
    assert all(found[place]["dice"] == 0 and found[place]["coverage"] < 0.1 for place in PLACES)


def test_what_cannot_be_measured_is_refused(folder, dataset, monkeypatch):
    def refused(match, *bundles):
        with pytest.raises(ValueError, match=match):
            module.heads(*(bundles or [str(folder)]), dataset_dir=str(dataset))

    take(monkeypatch, AS_IT_IS)
    with pytest.raises(ValueError, match="no bundle given; name one or more of those with configs"):
        module.heads(dataset_dir=str(dataset))
    refused("has no configs/inference_head.json, so it segments no whole heads", str(CLASSIFICATION[0]))
    label = dataset / "labelsTr" / "first.nii.gz"
    image = nib.load(label)
    voxels = np.asarray(image.dataobj)
    write_nifti(np.where(voxels == 2, 0, voxels).astype(np.uint8), label, image.affine)
    refused("first.nii.gz has no voxel of Right-Hippocampus, 2; leave the case out")
    write_nifti(voxels, label, image.affine + np.eye(4, k=3))
    refused("first.nii.gz lies on another grid than its image")
    write_nifti(np.stack([voxels, voxels], -1), label, image.affine)
    refused(r"first.nii.gz has the shape \(\d+, \d+, \d+, 2\); give one volume per file")
    (dataset / "dataset.json").write_text(json.dumps(index({"1": "Left-Hippocampus"})))
    refused("dataset.json are Left-Hippocampus; one must be Right-Hippocampus")
    (dataset / "dataset.json").write_text(json.dumps({**index(), "licence": ""}))
    refused("dataset.json has no licence, which the README needs; add it")
    (dataset / "dataset.json").unlink()
    refused("has no dataset.json, which names the labels")


def test_coverage_is_the_share_in_the_turned_box():
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("z", 90, degrees=True).as_matrix() * (2.0, 2.0, 2.0)
    crop = Crop(Region("Left", (0, 0, 0)), affine, (10, 4, 4))  # along the axis to the front
    points = np.array([[0.0, y, 0.0] for y in (-0.9, 18.9, -1.1, 19.1)])
    assert module.coverage(crop, points) == 0.5


def test_the_figures_of_the_readme(tmp_path):
    def side(dice, predicted, reference, share=1.0):
        return {
            "dice": dice,
            "predicted_ml": predicted,
            "reference_ml": reference,
            "coverage": share,
            "moved": False,
        }

    cases = {
        "a": {"Left": side(0.8, 3.0, 4.0), "Right": side(0.9, 5.0, 5.0), "problems": []},
        "b": {"Left": side(0.7, 4.0, 3.0), "Right": side(0.8, 2.0, 2.0, 0.993), "problems": []},
    }
    worse = {name: {**case, "Left": side(0.6, 1.0, 2.0), "problems": ["doubt"]} for name, case in cases.items()}
    record = {
        **{"dataset": "D", "description": "words", "licence": "L", "structure": "Hippocampus"},
        "poses": {"as it is": cases, "turned": worse},
    }
    (tmp_path / RECORD).parent.mkdir(parents=True)
    (tmp_path / RECORD).write_text(json.dumps(record))
    lines = describe_head_figures(BUNDLE, tmp_path).splitlines()
    assert "| mean Dice | 0.7500 | 0.8500 | 0.8000 |" in lines
    assert "| least Dice | 0.7000 | 0.8000 | 0.7000 |" in lines
    assert "| mean volume (mL) | 3.50 | 3.50 | 3.50 |" in lines
    assert "| mean volume of the reference (mL) | 3.50 | 3.50 | 3.50 |" in lines
    assert "| correlation of the volumes | -1.00 | 1.00 | 0.80 |" in lines
    assert "| least share of a reference in its crop (%) | 100.0 | 99.3 | 99.3 |" in lines
    assert "| as it is | 0.8000 |  | 0.7000 | 99.3 | 0 |" in lines
    assert "| turned | 0.7250 | -0.0750 | 0.6000 | 99.3 | 2 |" in lines


@pytest.mark.slow
@pytest.mark.skipif(not OASIS.is_dir(), reason="the heads are not at <repository>/../shared/data/OASIS12_1mm")
def test_heads_of_another_study_are_segmented_as_well_as_the_readme_says():
    pytest.importorskip("SimpleITK")
    cases, _, _ = find_cases(OASIS)
    found = module.measure(SOURCE, cases, {"Left": 1, "Right": 2}, POSES[AS_IT_IS])
    sides = [case[place] for case in found.values() for place in PLACES]
    assert len(sides) == 24
    assert np.mean([side["dice"] for side in sides]) > 0.82
    assert min(side["dice"] for side in sides) > 0.75
    assert min(side["coverage"] for side in sides) > 0.99
    assert not any(case["problems"] for case in found.values())
