"""What a training says of its data: numbers alone, beside the weights that they belong to."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from custom_networks.workflow import TrainingData, check_data
from custom_networks.workflow.report import training_data
from custom_networks.workflow.report.training_data import DESCRIPTION, describe, read_training_data, write_description
from tests.synthetic import write_dataset

NAMES = ["background", "Small", "Large"]


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = write_dataset(tmp_path_factory.mktemp("patient_Jane_Doe"), cases=3, spacing=(1, 1, 2))
    return [
        {"case": path.name, "image": str(path), "label": str(folder / "labelsTr" / path.name)}
        for path in sorted((folder / "imagesTr").glob("*"))
    ]


@pytest.fixture
def weights(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"weights")
    return tmp_path / "model.pt"


def test_every_fact_and_nothing_of_the_patients(cases, weights):
    found = describe(cases, NAMES, source="three blobs", modality="MR")
    assert (found["format"], found["cases"], found["source"], found["modality"]) == (1, 3, "three blobs", "MR")
    assert found["shape"] == {"least": [24, 28, 22], "most": [24, 28, 22]}
    assert found["extent_mm"]["most"] == [24.0, 28.0, 44.0]
    volumes = found["volumes_ml"]
    assert list(volumes) == ["Small", "Large"]
    assert all(len(own) == 3 and own == sorted(own) for own in volumes.values())
    assert volumes["Large"][0] == pytest.approx(2 * 4 / 3 * np.pi * 6**3 / 1000, rel=0.1)
    assert found["largest_piece_share"] == {"Small": 1.0, "Large": 1.0}
    assert found["border_share"] == {"Small": 0.0, "Large": 0.0}
    text = write_description(weights, found).read_text()
    assert not any(word in text for word in ("Jane", "case_", "/", ".nii"))
    assert "[24, 28, 22]" in text
    assert read_training_data(weights) == {**found, "weights": json.loads(text)["weights"]}


def test_a_training_checks_and_describes_in_one_reading(cases, weights):
    data = TrainingData(NAMES)
    check_data(1, NAMES, training=cases[:2], validation=cases[2:], observer=data)
    data.write(weights)
    found = read_training_data(weights)
    wanted = describe(cases[:2], NAMES)
    assert {key: found[key] for key in wanted} == wanted
    assert found["modality"] == "MR or other"


def test_numbers_have_four_digits():
    data = TrainingData(["background", "A"])
    voxels = torch.zeros(1, 40, 40, 40, dtype=torch.int32)
    voxels[0, 1:31, 2:31, 3:30] = 1
    image = torch.rand(1, 40, 40, 40, generator=torch.Generator().manual_seed(0))
    affine = np.diag([0.777777, 0.9, 1.1, 1])
    data.add(MetaTensor(image, affine=affine), MetaTensor(voxels, affine=affine))
    assert data.describe()["volumes_ml"] == {"A": [18.09]}
    assert data.describe()["spacing"]["least"] == [0.7778, 0.9, 1.1]


def _pair(label, image=None):
    image = torch.rand(label.shape, generator=torch.Generator().manual_seed(0)) if image is None else image
    return MetaTensor(image, affine=np.eye(4)), MetaTensor(label, affine=np.eye(4))


def test_values_regions_absence_pieces_and_borders():
    label = torch.zeros(1, 6, 6, 6, dtype=torch.int32)
    label[0, 0:2, 1:3, 1:3] = 5
    label[0, 4, 4, 1:3] = 6
    classes = TrainingData(["background", "A", "B"], label_values=[0, [5, 6], 7])
    regions = TrainingData(["background", "A", "B"], regions=[[5, 6], 6])
    for data in (classes, regions):
        data.add(*_pair(label))
        data.add(*_pair(torch.flip(label * (label < 6), [3])))
    found = classes.describe()
    assert found["volumes_ml"] == {"A": [0.008, 0.01], "B": [0, 0]}
    assert found["largest_piece_share"] == {"A": 0.8}
    assert found["border_share"] == {"A": 1.0}
    assert regions.describe()["volumes_ml"] == {"A": [0.008, 0.01], "B": [0, 0.002]}
    assert regions.describe()["border_share"] == {"A": 1.0, "B": 0.0}


def test_a_case_with_voxels_of_no_label_gives_no_volume():
    label = torch.zeros(1, 6, 6, 6, dtype=torch.int32)
    label[0, 2:4, 2:4, 2:4] = 1
    data = TrainingData(["background", "A"], ignore_value=9)
    data.add(*_pair(label))
    label = label.clone()
    label[0, 4] = 9
    data.add(*_pair(label))
    found = data.describe()
    assert found["cases"] == 2
    assert found["volumes_ml"] == {"A": [0.008]}


def test_ct_is_told_by_its_intensities():
    image = torch.full((1, 9, 9, 9), -1000.0)
    image[0, 3:, 3:] = torch.randint(-90, 90, (6, 6, 9), generator=torch.Generator().manual_seed(0)).float()
    data = TrainingData(["background", "A"])
    data.add(*_pair(torch.ones(1, 9, 9, 9, dtype=torch.int32), image))
    assert data.describe()["modality"] == "CT"


def test_what_cannot_be_described_ends_no_training(cases, weights, caplog, monkeypatch):
    def fail(*_):
        raise MemoryError("no room")

    monkeypatch.setattr(training_data, "measure", fail)
    data = TrainingData(NAMES)
    with caplog.at_level(logging.WARNING):
        check_data(1, NAMES, training=cases, observer=data)
    data.write(weights)
    assert [r.getMessage() for r in caplog.records if r.name == training_data.__name__] == [
        "the training data are not described (no room); the training goes on without"
    ]
    assert not weights.with_name(DESCRIPTION).exists()
    with pytest.raises(ValueError, match=r"case_00.nii.gz cannot be described: no room; remove it from the cases"):
        describe(cases, NAMES)


def test_a_disk_that_is_full_ends_no_training(cases, weights, caplog, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(training_data, "write_text", fail)
    data = TrainingData(NAMES)
    check_data(1, NAMES, training=cases[:1], observer=data)
    data.write(weights)
    assert "the training data are not described ([Errno 28] No space left on device)" in caplog.text


def test_without_a_case_nothing_is_written(weights):
    TrainingData(NAMES).write(weights)
    assert read_training_data(weights) is None
    with pytest.raises(ValueError, match="there is no case to describe, got an empty list"):
        describe([], NAMES)


def test_weights_that_outlast_a_training_keep_their_own_description(cases, weights, tmp_path, caplog):
    data = TrainingData(NAMES)
    kept = tmp_path / "kept" / "model.pt"
    kept.parent.mkdir()
    kept.write_bytes(b"the same weights, written again")
    data.write_of_start(kept, weights)
    assert not kept.with_name(DESCRIPTION).exists()
    write_description(weights, describe(cases, NAMES))
    data.write_of_start(kept, weights)
    assert read_training_data(kept)["volumes_ml"] == read_training_data(weights)["volumes_ml"]
    weights.with_name(DESCRIPTION).write_text("{}")
    data.write_of_start(kept, weights)
    assert "the training data of the weights at the start are not described" in caplog.text


def test_it_is_of_its_weights_only(cases, weights):
    write_description(weights, describe(cases[:1], NAMES))
    weights.write_bytes(b"others")
    assert read_training_data(weights) is None
    weights.unlink()
    assert read_training_data(weights) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: {**d, "format": 2},
        lambda d: {k: v for k, v in d.items() if k != "volumes_ml"},
        lambda d: {**d, "volumes_ml": {"Small": 3}},
        lambda d: {**d, "volumes_ml": {"Small": ["3"]}},
        lambda d: {**d, "intensity": []},
        lambda d: {**d, "intensity": ["bright"]},
        lambda d: {**d, "intensity": [{**d["intensity"][0], "middle": [0.1]}]},
        lambda d: {**d, "intensity": [{k: v for k, v in d["intensity"][0].items() if k != "hounsfield"}]},
        lambda d: {**d, "shape": {"least": [1, 2, 3]}},
        lambda d: {**d, "spacing": {"least": [1, 2], "most": [1, 2, 3]}},
        lambda d: {**d, "border_share": {"Small": None}},
    ],
)
def test_a_broken_description_is_named(cases, weights, spoil):
    file = write_description(weights, describe(cases[:1], NAMES))
    file.write_text(json.dumps(spoil(json.loads(file.read_text()))))
    with pytest.raises(ValueError, match=r"is no description of training data; delete it, and nothing is compared"):
        read_training_data(weights)
