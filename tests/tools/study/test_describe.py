"""The description of the shipped weights is made of the cases that they were trained on."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from custom_networks.workflow import segmentation_data_list
from custom_networks.workflow.report.training_data import DESCRIPTION, read_training_data, write_description
from custom_networks.workflow.report.training_data import describe as describe_cases
from tests.conftest import SHARED
from tests.synthetic import CLASSIFICATION, SEGMENTATION, write_dataset
from tools.__main__ import main
from tools.recipes.render import spec_of
from tools.study import describe
from tools.study.describe import keep_description

SOURCE = SEGMENTATION[0]
REAL = SHARED / "data" / "Task04_Hippocampus"


@pytest.fixture
def folder(tmp_path):
    target = tmp_path / SOURCE.name
    shutil.copytree(SOURCE / "configs", target / "configs")
    (target / "models").mkdir()
    (target / "models" / "model.pt").write_bytes(b"weights")
    return target


@pytest.mark.parametrize(("study", "cases"), [(None, 5), ("all_cases", 7)])
def test_the_cases_that_train_are_described(folder, tmp_path, capsys, monkeypatch, study, cases):
    spec = replace(spec_of(SOURCE), study=study)
    monkeypatch.setattr(describe, "spec_of", lambda _: spec)
    data = write_dataset(tmp_path / "data")
    assert main(["bundles", "describe", str(folder), "--dataset_dir", str(data)]) == 0
    assert capsys.readouterr().out == f"wrote {folder / 'models' / DESCRIPTION}: {cases} cases\n"
    found = read_training_data(folder / "models" / "model.pt")
    assert found["cases"] == cases
    assert found["modality"] == "MR"
    assert found["source"].startswith("Task04_Hippocampus of the Medical Segmentation Decathlon")


def test_a_training_of_the_shipped_weights_keeps_its_own(folder, tmp_path):
    trained = tmp_path / "run" / "model.pt"
    trained.parent.mkdir()
    shutil.copyfile(folder / "models" / "model.pt", trained)
    keep_description(trained, folder)
    assert not (folder / "models" / DESCRIPTION).exists()
    cases = segmentation_data_list(write_dataset(tmp_path / "data"), "training")
    write_description(trained, describe_cases(cases, ["background", "Small", "Large"]))
    keep_description(trained, folder)
    found = read_training_data(folder / "models" / "model.pt")
    assert found["modality"] == "MR"
    assert found["source"].startswith("Task04_Hippocampus of the Medical Segmentation Decathlon")
    assert found["cases"] == 5


def test_weights_and_a_network_that_segments_are_needed(folder, capsys):
    (folder / "models" / "model.pt").unlink()
    assert main(["bundles", "describe", str(folder)]) == 1
    assert "there are no weights" in capsys.readouterr().err
    assert main(["bundles", "describe", str(CLASSIFICATION[0])]) == 1
    assert "does not segment, and nothing compares its images" in capsys.readouterr().err


@pytest.mark.parametrize("bundle", SEGMENTATION, ids=lambda path: path.name)
def test_the_shipped_ones_are_of_the_shipped_weights(bundle):
    found = read_training_data(bundle / "models" / "model.pt")
    assert found is not None
    spec = spec_of(bundle)
    cases = 208 if spec.study else 208 - len(spec.folds[0])
    assert found["cases"] == cases
    assert all(len(volumes) == cases for volumes in found["volumes_ml"].values())


@pytest.mark.skipif(not REAL.is_dir(), reason="Task04_Hippocampus is not at <repository>/../shared/data")
def test_a_shipped_one_is_what_the_command_writes(folder):
    shutil.copyfile(SOURCE / "models" / "model.pt", folder / "models" / "model.pt")
    assert main(["bundles", "describe", str(folder), "--dataset_dir", str(REAL)]) == 0
    assert (folder / "models" / DESCRIPTION).read_text() == (SOURCE / "models" / DESCRIPTION).read_text()
