"""Data and a trained network for the tests of every bundle."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from custom_networks.workflow.guard.errors import sentence_of
from tests.conftest import SHARED
from tests.synthetic import BUNDLES, EPOCHS, KINDS, Kind, kind, run, tiny_knobs, tiny_training

ORIENTATIONS = ("RAS", "LPS", "PSR")


@pytest.fixture(autouse=True)
def _no_bill(monkeypatch):
    """Leave out what takes seconds per run: tests/workflow/memory tests the bill, and command_line runs it."""
    monkeypatch.setattr("custom_networks.workflow.report_memory", lambda *_, **__: None)


@pytest.fixture(params=BUNDLES, ids=lambda path: path.name)
def bundle(request) -> Path:
    return request.param


@pytest.fixture(scope="session")
def _datasets(tmp_path_factory) -> dict[Kind, Path]:
    return {kind: kind.write(tmp_path_factory.mktemp(name)) for name, kind in KINDS.items()}


@pytest.fixture
def dataset(bundle, _datasets) -> Path:
    return _datasets[kind(bundle)]


@pytest.fixture
def trained(bundle, dataset, tmp_path_factory) -> Path:
    """The output folder of a training that was long enough to find the classes; written once, for all processes."""
    base = tmp_path_factory.getbasetemp()
    output = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"trained_{bundle.name}"
    done = Path(f"{output}.done")
    with FileLock(f"{output}.lock"):
        if not done.exists():
            run(bundle, "train", tiny_training(bundle, dataset, output, epochs=EPOCHS, val_interval=4))
            done.touch()
    return output


@pytest.fixture
def evaluate(bundle, dataset, trained, tmp_path):
    """Return a function that evaluates the trained network and returns the folder of the report."""

    def call(name: str = "evaluation", **overrides: object) -> Path:
        knobs = tiny_training(bundle, dataset, tmp_path / name, ckpt_dir=str(trained))
        run(bundle, ["train", "evaluate"], {**knobs, **overrides})
        return tmp_path / name

    return call


@pytest.fixture
def infer(bundle, trained, tmp_path):
    """Return a function that applies the trained network to a file or folder and returns the folder of the results."""

    def call(source: Path, name: str = "results", **overrides: object) -> Path:
        knobs = {"dataset_dir": str(source), "output_dir": str(tmp_path / name), "ckpt_dir": str(trained)}
        run(bundle, "inference", {**tiny_knobs(bundle), **knobs, **overrides})
        return tmp_path / name

    return call


@pytest.fixture
def series() -> Path:
    """Return the folder of a DICOM series, or skip the test where there is none."""
    pytest.importorskip("pydicom")
    folders = sorted(path.parent for path in (SHARED / "data" / "HippoCrop_DICOM").glob("*/*/1.dcm"))
    if not folders:
        pytest.skip("there is no <repository>/../shared/data/HippoCrop_DICOM")
    return folders[0]


@pytest.fixture
def refused():
    """Return a function that runs configs and returns the sentence with which they were refused."""

    def attempt(*arguments, **more):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - MONAI wraps the error; its sentence is checked
            run(*arguments, **more)
        sentence = sentence_of(caught.value)
        assert sentence is not None
        assert "\n" not in sentence
        return sentence

    return attempt


@pytest.fixture
def training_refused(bundle, dataset, tmp_path, refused):
    """Return a function that damages a copy of the data set and checks with what sentence a training refuses it."""

    def attempt(damage, overrides, message):
        data = tmp_path / "data"
        shutil.copytree(dataset, data)
        damage(data)
        sentence = refused(bundle, "train", tiny_training(bundle, data, tmp_path / "out", **overrides))
        assert re.search(message, sentence), sentence
        assert not (tmp_path / "out").exists()

    return attempt


@pytest.fixture
def inference_refused(bundle, trained, tmp_path, refused):
    """Return a function that checks with what sentence the trained network refuses an image."""

    def attempt(source, overrides, message):
        knobs = {"dataset_dir": str(source), "output_dir": str(tmp_path / "out"), "ckpt_dir": str(trained)}
        sentence = refused(bundle, "inference", {**tiny_knobs(bundle), **knobs, **overrides})
        assert re.search(message, sentence), sentence
        assert not (tmp_path / "out").exists()

    return attempt
