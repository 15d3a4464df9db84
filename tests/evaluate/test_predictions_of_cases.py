"""Which prediction is that of a case: by its image, by its name, by that of its image."""

from __future__ import annotations

from pathlib import Path

from custom_networks.evaluate.predictions import Prediction, predictions_of
from custom_networks.workflow.data.cases import Case


def case(name: str, *images: str) -> Case:
    return Case(name, tuple(Path("/data", image) for image in images), Path(f"/labels/{name}.nii.gz"))


def prediction(name: str, *images: str) -> Prediction:
    return Prediction(Path("/predictions", name), tuple(f"/data/{image}" for image in images))


def test_the_image_of_a_record_counts_more_than_a_name():
    cases = [case("a", "a.nii.gz"), case("b", "b.nii.gz")]
    of_a, of_b = prediction("b_seg.nii.gz", "a.nii.gz"), prediction("x.nii.gz", "b.nii.gz")
    assert predictions_of(cases, [of_a]) == {"a": [of_a], "b": []}
    assert predictions_of(cases, [of_a, of_b]) == {"a": [of_a], "b": [of_b]}


def test_a_record_of_an_image_elsewhere_leaves_the_name():
    moved = prediction("a_seg.nii.gz", "elsewhere/a.nii.gz")
    assert predictions_of([case("a", "a.nii.gz")], [moved]) == {"a": [moved]}


def test_a_prediction_may_be_called_as_the_image_of_its_case():
    channels = case("first", "scan_0000.nii.gz", "scan_0001.nii.gz")
    of_scan = prediction("scan.nii.gz")
    assert predictions_of([channels], [of_scan]) == {"first": [of_scan]}


def test_a_name_that_all_images_have_tells_nothing():
    cases = [case("one", "one/imaging.nii.gz"), case("two", "two/imaging.nii.gz")]
    assert predictions_of(cases, [prediction("imaging_seg.nii.gz")]) == {"one": [], "two": []}


def test_two_predictions_of_one_case_are_both_returned():
    both = [prediction("a.nii.gz"), prediction("deep/a_seg.nii.gz")]
    assert predictions_of([case("a")], both) == {"a": both}
