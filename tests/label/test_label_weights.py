"""Which labels validate, what is served when weights are sent, and what is read of a training that was interrupted."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
import torch
from fastapi import HTTPException
from label_server import sent_weights
from label_server.served_weights import ServedWeights
from label_server.training import Training, _split
from label_server.training_folder import TrainingFolder

from tests.label.conftest import SCORED
from tests.synthetic import ROOT


def cases(number: int) -> list[dict[str, str]]:
    return [{"image": f"/studies/case_{index}.nii.gz", "label": f"/labels/{index}"} for index in range(number)]


@pytest.fixture
def bundle(tmp_path):
    """A folder with weights that a training was interrupted for."""
    (tmp_path / "net" / "models").mkdir(parents=True)
    (tmp_path / "net" / "models" / "model.pt").write_bytes(b"served")
    folder = TrainingFolder(str(tmp_path / "net"))
    folder.begin({}, {})
    torch.save({"trainer": {"iteration": 6, "epoch_length": 2, "max_epochs": 5}}, folder.state)
    folder.leave()
    return tmp_path / "net"


def test_a_case_stays_on_its_side():
    known = cases(40)
    validated_before = None
    for number in range(6, 41):
        training, validation = _split(known[:number], 0.2)
        assert sorted(case["image"] for case in training + validation) == sorted(
            case["image"] for case in known[:number]
        )
        assert training
        assert validation
        held = {case["image"] for case in validation}
        if validated_before is not None:
            new = known[number - 1]["image"]
            assert held <= validated_before | {new}
        validated_before = held
    assert 0.1 < len(validated_before) / 40 < 0.3
    assert _split(known[::-1], 0.2) == _split(known, 0.2)


@pytest.mark.parametrize("share", [0, 0.001, 0.2, 0.999])
def test_at_least_one_case_trains_and_one_validates(share):
    for number in (2, 3, 10):
        training, validation = _split(cases(number), share)
        assert len(training) + len(validation) == number
        assert training
        assert validation


@pytest.mark.parametrize("number", [0, 1])
def test_too_few_labels_are_refused_and_leave_an_interrupted_training_alone(number, bundle):
    def interrupted():
        said = TrainingFolder(str(bundle)).say_interrupted()
        assert "was interrupted after epoch 3 of 5" in said
        return said

    task = Training(str(ROOT / "bundles" / SCORED), {})
    task.name, task.folder, task.served = "net", TrainingFolder(str(bundle)), ServedWeights(str(bundle))
    before = interrupted()
    labels = SimpleNamespace(datalist=lambda: cases(number))
    with pytest.raises(HTTPException) as error:
        task({"model": "net", "device": "cpu"}, labels)
    assert (error.value.status_code, error.value.detail) == (
        422,
        f"a training needs two labels or more, got {number}; correct another image",
    )
    assert interrupted() == before


def test_the_state_of_an_interrupted_training_is_read_once(bundle, monkeypatch):
    folder = TrainingFolder(str(bundle))
    read = []
    load = folder.read_state
    monkeypatch.setattr(folder, "read_state", lambda: read.append(1) or load())
    for _ in range(3):
        assert "after epoch 3 of 5" in folder.say_interrupted()
    assert len(read) == 1
    torch.save({"trainer": {"iteration": 8, "epoch_length": 2, "max_epochs": 5}, "more": 1}, folder.state)
    assert "after epoch 4 of 5" in folder.say_interrupted()
    assert len(read) == 2


@pytest.fixture
def application(bundle, monkeypatch):
    """The app, which has one model."""
    path = str(bundle / "models" / "model.pt")
    app = SimpleNamespace(model_file=lambda _: path, model_info=lambda _: {"checksum": "y"})
    monkeypatch.setattr(sent_weights, "app_instance", lambda: app)


@pytest.mark.usefixtures("application")
def test_weights_that_are_sent_keep_those_before(bundle):
    answer = sent_weights.take_weights("net", SimpleNamespace(file=io.BytesIO(b"sent")))
    served = ServedWeights(str(bundle))
    assert served.file.read_bytes() == b"sent"
    [kept] = served.kept()
    assert answer == {"checksum": "y", "kept_as": kept}
    assert (served.folder / kept).read_bytes() == b"served"
    assert sorted(path.name for path in served.folder.iterdir()) == ["model.pt", kept]
    assert not (bundle / "training").exists()


@pytest.mark.usefixtures("application")
def test_weights_are_not_sent_into_a_training(bundle):
    training = TrainingFolder(str(bundle))
    training.begin({}, {})
    with pytest.raises(HTTPException) as error:
        sent_weights.take_weights("net", SimpleNamespace(file=io.BytesIO(b"sent")))
    assert error.value.detail == "net is being trained; send the weights when that has ended"
    assert (bundle / "models" / "model.pt").read_bytes() == b"served"
    assert training.state.exists()
