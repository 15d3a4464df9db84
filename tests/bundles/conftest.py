"""Data and a trained network for the tests of every bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.synthetic import BUNDLES, EPOCHS, run, tiny_training, write_dataset


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("synthetic"))


@pytest.fixture(params=BUNDLES, ids=lambda path: path.name)
def bundle(request) -> Path:
    return request.param


@pytest.fixture(scope="session")
def _trainings() -> dict[Path, Path]:
    return {}


@pytest.fixture
def trained(bundle, dataset, _trainings, tmp_path_factory) -> Path:
    """The output folder of a training that was long enough to find both classes; written once per process."""
    if bundle not in _trainings:
        output = tmp_path_factory.mktemp(bundle.name)
        run(bundle, "train", tiny_training(bundle, dataset, output, epochs=EPOCHS, val_interval=4))
        _trainings[bundle] = output
    return _trainings[bundle]
