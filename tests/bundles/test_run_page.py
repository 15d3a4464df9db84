"""The page at the end of an evaluation and of a training, where the knob report wants it."""

from __future__ import annotations

import importlib.util

import nibabel as nib
import numpy as np
import pytest

from tests.synthetic import IMAGES, ONE_PER_RECIPE, SEGMENTATION, each, run, tiny_training


@each(SEGMENTATION[:1])
def test_an_evaluation_writes_the_page_and_the_masks_of_inference(bundle, dataset, evaluate, infer):
    folder = evaluate(report=True)
    masks = infer(dataset / IMAGES)
    written = sorted(folder.glob("*_seg.nii.gz"))
    assert [path.name for path in written] == ["case_00_seg.nii.gz", "case_05_seg.nii.gz"]
    for path in written:
        one, other = nib.load(path), nib.load(masks / path.name)
        np.testing.assert_array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))
        np.testing.assert_array_equal(one.affine, other.affine)
        assert one.get_data_dtype() == other.get_data_dtype()
    page = (folder / "report.html").read_text()
    assert "case_00" in page
    assert "No pictures" not in page


@each(ONE_PER_RECIPE)
def test_without_the_knob_there_is_no_page(evaluate, bundle):
    names = {path.name for path in evaluate("plain").iterdir()}
    assert "report.html" not in names
    assert not any("_seg" in name for name in names)


@each(ONE_PER_RECIPE)
def test_a_training_ends_with_the_page(bundle, dataset, tmp_path):
    run(bundle, "train", {**tiny_training(bundle, dataset, tmp_path / "out"), "epochs": 1, "report": True})
    assert "<svg" in (tmp_path / "out" / "report.html").read_text()


@each(ONE_PER_RECIPE)
def test_a_page_that_cannot_be_written_is_refused_first(bundle, dataset, tmp_path, refused, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "custom_networks.workflow.report.run_page.find_spec", lambda name: None if name == "jinja2" else found(name)
    )
    knobs = {**tiny_training(bundle, dataset, tmp_path / "out"), "report": True}
    assert refused(bundle, "train", knobs) == "the page needs jinja2; pip install jinja2, or set report to false"
    assert not (tmp_path / "out").exists()


pytestmark = pytest.mark.filterwarnings("ignore:the (ground truth|prediction) of class:UserWarning")
