"""Patients in ``adapt`` and ``check``: the folds they make, splits that divide them, pairs that look like one."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_networks.__main__ import main
from custom_networks.adapt.commands import adapt
from custom_networks.adapt.facts import read_facts
from custom_networks.workflow import segmentation_data_list
from tests.conftest import SHARED
from tests.synthetic import ROOT, change, write_nifti

BUNDLE = "hippocampus_mr_attention_unet_segmentation"
PAIRS = 14


def write_cases(root: Path, voxels: Mapping[str, int]) -> Path:
    """Write a case of so many voxels of 2 mm3 per name."""
    chance = np.random.default_rng(0)
    for name, count in voxels.items():
        label = np.zeros(16**3, np.uint8)
        label[1000 : 1000 + count] = 1
        label = label.reshape(16, 16, 16)
        affine = np.diag([1.0, 1, 2, 1])
        write_nifti(
            (label + chance.normal(size=label.shape)).astype(np.float32), root / f"imagesTr/{name}.nii.gz", affine
        )
        write_nifti(label, root / f"labelsTr/{name}.nii.gz", affine)
    return root


@pytest.fixture(scope="module")
def sides(tmp_path_factory) -> Path:
    """Return a folder of two sides of each of 14 patients, whose names say nothing."""
    sizes = np.random.default_rng(3).permutation(np.geomspace(200, 900, PAIRS))
    voxels = {f"case_{2 * k + side:02d}": round(size) + 5 * side for k, size in enumerate(sizes) for side in (1, 2)}
    return write_cases(tmp_path_factory.mktemp("sides") / "sides", voxels)


@pytest.fixture
def data(sides, tmp_path) -> Path:
    return Path(shutil.copytree(sides, tmp_path / "data"))


def name_patients(root: Path, patients: Mapping[str, str]) -> None:
    lines = "".join(f"{case},{patient}\n" for case, patient in patients.items())
    (root / "patients.csv").write_text(f"case,patient\n{lines}")


CASES = [f"case_{number:02d}" for number in range(1, 2 * PAIRS + 1)]
OWNERS = {case: f"P{k // 2:02d}" for k, case in enumerate(CASES)}


def warnings(text: str) -> list[str]:
    return re.findall(r"^warning: patients +(.*)$", text, re.MULTILINE)


def test_a_file_of_patients_makes_the_folds(data, tmp_path, capsys):
    name_patients(data, OWNERS)
    profile = adapt(str(data), bundle=BUNDLE, out=str(tmp_path / "mine.json"))
    said = capsys.readouterr().out
    assert "14 patients as patients.csv says, each in one fold (folds_file)" in said
    assert not warnings(said)
    folds = json.loads(Path(profile["folds_file"]).read_text())["folds"]
    assert sorted(name for fold in folds for name in fold) == CASES
    assert folds[1] == [case for case, owner in OWNERS.items() if owner in ("P01", "P06", "P11")]
    by_rank = [case["case"] for case in segmentation_data_list(data, "validation", fold=1)]
    assert by_rank == folds[1], "a training without a profile has the same folds"
    assert main(["check", str(data), "--profile", str(tmp_path / "mine.json")]) == 0
    assert "note: " not in capsys.readouterr().out


def test_neighbours_that_look_like_one_patient_are_named_where_nothing_tells(data, tmp_path, capsys):
    profile = adapt(str(data), bundle=BUNDLE, out=str(tmp_path / "mine.json"))
    assert "folds_file" not in profile
    (said,) = warnings(capsys.readouterr().out)
    assert said.startswith("case_01 and case_02 and 13 more pairs look like one patient each  (the volumes of")
    assert said.endswith("write which case is of which patient to patients.csv)")
    assert main(["check", str(data)]) == 0
    note = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("note: "))
    assert "case_01 and case_02 and 13 more pairs look like one patient each: the volumes of neighbouring" in note
    name_patients(data, {case: case for case in CASES})
    adapt(str(data), bundle=BUNDLE, out=str(tmp_path / "mine.json"))
    assert not warnings(capsys.readouterr().out), "each case is of its own patient, says the file"
    assert main(["check", str(data)]) == 0
    assert "note: " not in capsys.readouterr().out


def split(root: Path, validation: list[str]) -> None:
    training = [case for case in CASES if case not in validation]
    (root / "splits_final.json").write_text(json.dumps([{"train": training, "val": validation}]))


def test_a_split_that_divides_no_pair_is_no_reason_to_warn(data, tmp_path, capsys):
    split(data, CASES[:6])
    adapt(str(data), bundle=BUNDLE, out=str(tmp_path / "mine.json"))
    assert not warnings(capsys.readouterr().out)
    assert main(["check", str(data)]) == 0
    assert "note: " not in capsys.readouterr().out
    split(data, CASES[:5])
    adapt(str(data), bundle=BUNDLE, out=str(tmp_path / "mine.json"))
    assert warnings(capsys.readouterr().out)[0].startswith("case_01 and case_02 and 13 more pairs look")


def test_a_split_that_is_given_stays_and_the_patients_it_divides_are_named(data, tmp_path, capsys):
    name_patients(data, OWNERS)
    split(data, CASES[:5])
    profile = adapt(str(data), bundle=BUNDLE, out=str(tmp_path / "mine.json"))
    assert "folds_file" not in profile
    said = capsys.readouterr().out
    assert "23 to train on, 5 to validate on; splits_final.json in the data set" in said
    assert warnings(said) == [
        "1 of 5 cases to validate on, such as case_05, are of a patient to train on  (case_06 is of the same, as "
        "patients.csv says, so the validation says too much; correct the folds)"
    ]
    assert main(["check", str(data)]) == 1
    assert re.search(
        r"^imagesTr/case_05\.nii\.gz +is to validate on, but imagesTr/case_06\.nii\.gz of the same patient is to train",
        capsys.readouterr().out,
        re.MULTILINE,
    )


def test_the_folds_of_the_bundle_stay_unless_a_file_names_the_patients(data, tmp_path, capsys):
    bundle = tmp_path / "bundle"
    shutil.copytree(ROOT / "bundles" / BUNDLE / "configs", bundle / "configs")
    (bundle / "configs" / "folds.json").write_text(json.dumps({"folds": [CASES[:5], CASES[5:]]}))
    profile = adapt(str(data), bundle=str(bundle), out=str(tmp_path / "mine.json"))
    said = capsys.readouterr().out
    assert "folds_file" not in profile
    assert "23 to train on, 5 to validate on; folds of bundle" in said
    assert warnings(said)[0].startswith("case_01 and case_02 and 13 more pairs look")
    name_patients(data, OWNERS)
    assert "folds_file" in adapt(str(data), bundle=str(bundle), out=str(tmp_path / "mine.json"))


def test_a_file_of_patients_that_does_not_fit_is_named(data, tmp_path, capsys):
    name_patients(data, {**OWNERS, "elsewhere": "P99"})
    words = (
        f"line 30 of {data / 'patients.csv'} names elsewhere, which is no case of the data set; correct it or remove"
    )
    assert main(["adapt", str(data), "--bundle", BUNDLE, "--out", str(tmp_path / "mine.json")]) == 1
    assert words in capsys.readouterr().err
    assert main(["check", str(data)]) == 1
    assert f"patients.csv  {words}" in capsys.readouterr().out
    name_patients(data, dict.fromkeys(CASES, "one"))
    assert main(["adapt", str(data), "--bundle", BUNDLE, "--out", str(tmp_path / "mine.json")]) == 1
    assert "holds one patient, as patients.csv says, and none to validate on; add another" in capsys.readouterr().err


def test_patients_have_folders(tmp_path, capsys):
    names = {f"scan{number}": 300 + 40 * number for number in (11, 12, 21, 31)}
    flat, root = write_cases(tmp_path / "flat", names), tmp_path / "data"
    for part in ("imagesTr", "labelsTr"):
        for name in names:
            folder = root / part / f"person{name[-2]}"
            folder.mkdir(parents=True, exist_ok=True)
            (flat / part / f"{name}.nii.gz").rename(folder / f"{name}_{part}.nii.gz")
    patterns = {"images": "imagesTr/*/*_imagesTr.nii.gz", "labels": "labelsTr/*/*_labelsTr.nii.gz"}
    profile = adapt(str(root), bundle=BUNDLE, out=str(tmp_path / "mine.json"), **patterns)
    folds = json.loads(Path(profile["folds_file"]).read_text())["folds"]
    assert folds == [["scan11", "scan12"], ["scan21"], ["scan31"], [], []]
    assert "3 patients by their folders, each in one fold" in capsys.readouterr().out


def test_the_volume_of_a_label_is_that_of_its_classes(tmp_path):
    """In ml, without the background and what nobody has labelled."""
    root = write_cases(tmp_path / "data", {"a": 300, "b": 500})
    assert read_facts(root).volumes == pytest.approx([0.6, 1.0])
    (root / "dataset.json").write_text(json.dumps({"labels": {"rest": 0, "Background": 1}}))
    assert read_facts(root).volumes == pytest.approx([2 * (16**3 - 300) / 1000, 2 * (16**3 - 500) / 1000])
    change(root / "labelsTr" / "a.nii.gz", lambda label: np.where(np.arange(16) < 8, label, 2).astype(np.uint8))
    (root / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "organ": 1, "ignore": 2}}))
    labelled = nib.load(root / "labelsTr" / "a.nii.gz").get_fdata() == 1
    assert read_facts(root).volumes == pytest.approx([2 * labelled.sum() / 1000, 1.0])


@pytest.mark.slow
def test_the_two_sides_of_a_subject_are_named(tmp_path, capsys):
    root = SHARED / "data" / "Task04_Hippocampus"
    if not root.is_dir():
        pytest.skip("there is no <repository>/../shared/data/Task04_Hippocampus")
    crops = tmp_path / "crops.json"
    names = sorted(path.name.removesuffix(".nii.gz") for path in (root / "labelsTr").glob("hippocampus_*.nii.gz"))
    crops.write_text(json.dumps({"folds": [names[fold::5] for fold in range(5)]}))
    assert main(["check", str(root)]) == 0
    note = next(line for line in capsys.readouterr().out.splitlines() if "one patient" in line)
    assert "hippocampus_003 and hippocampus_004 and 55 more pairs look like one patient each" in note
    bundle = Path(shutil.copytree(ROOT / "bundles" / BUNDLE / "configs", tmp_path / "bundle" / "configs")).parent
    for folds, told in ((crops, True), (root / "folds_by_subject.json", False)):
        shutil.copyfile(folds, bundle / "configs" / "folds.json")
        adapt(str(root), bundle=str(bundle), out=str(tmp_path / "mine.json"))
        assert bool(warnings(capsys.readouterr().out)) is told
