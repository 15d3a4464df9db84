"""The shipped weights make the same masks and probabilities by OpenVINO as by PyTorch."""

from __future__ import annotations

import re
import shutil

import nibabel as nib
import numpy as np
import pytest

from custom_networks.workflow.infer.engines import onnx_export
from tests.conftest import SHARED
from tests.synthetic import ONE_PER_RECIPE, SEGMENTATION, each, read_rows, run, task, tiny_knobs

CASE = SHARED / "data" / "Task04_Hippocampus" / "imagesTr" / "hippocampus_003.nii.gz"


@pytest.fixture
def engines(bundle, tmp_path, monkeypatch):
    """Return a function that runs an image by PyTorch and by OpenVINO and returns the two folders of the results."""
    pytest.importorskip("openvino")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # a graph of one size is made in half the time; tests/exports.py runs those that leave it open
    monkeypatch.setattr(onnx_export, "open_sizes", lambda network: {})
    monkeypatch.setattr(
        "custom_networks.workflow.infer.engines.openvino_runner.example",
        lambda channels, size: onnx_export.example(channels, size, batch=1),
    )

    def call(image, **knobs):
        folders = []
        for engine in ("torch", "openvino"):
            folders.append(tmp_path / engine)
            places = {"dataset_dir": str(image), "output_dir": str(folders[-1]), "ckpt_dir": str(tmp_path / "models")}
            run(bundle, "inference", {**places, "amp": False, "engine": engine, **knobs})
        assert len(list((tmp_path / "models" / "engines").glob("*.onnx"))) == 1
        return folders

    return call


@pytest.mark.slow
@each(SEGMENTATION)
def test_the_shipped_weights_make_the_same_mask(bundle, engines, tmp_path):
    if not CASE.is_file():
        pytest.skip("there are no hippocampus cases at <repository>/../shared/data")
    (tmp_path / "models").mkdir()
    shutil.copyfile(bundle / "models" / "model.pt", tmp_path / "models" / "model.pt")
    masks = [nib.load(next(folder.glob("*_seg.nii.gz"))).get_fdata() for folder in engines(CASE)]
    assert len(np.unique(masks[0])) == 3
    assert np.array_equal(*masks)


@each(ONE_PER_RECIPE)
def test_every_recipe_runs_by_openvino(bundle, dataset, trained, engines, tmp_path):
    shutil.copytree(trained, tmp_path / "models")
    image = sorted((dataset / "imagesTr").iterdir())[0]
    folders = engines(image, **tiny_knobs(bundle))
    if task(bundle) == "segmentation":
        masks = [nib.load(next(folder.glob("*_seg.nii.gz"))).get_fdata() for folder in folders]
        assert masks[0].any() and np.array_equal(*masks)
        return
    rows = [read_rows(folder / "predictions.csv") for folder in folders]
    for first, second in zip(*rows, strict=True):
        assert first.keys() == second.keys()
        for key, text in first.items():
            if re.fullmatch(r"-?\d+\.\d+", text):  # the last digit is the processor's
                assert float(second[key]) == pytest.approx(float(text), abs=1e-4)
            else:
                assert second[key] == text
