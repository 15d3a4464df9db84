"""The table of the shipped weights of a segmentation bundle, before and after the NSD was measured."""

from __future__ import annotations

from tests.tools.records import record
from tools.recipes.render import all_bundles
from tools.recipes.segmentation.readme import describe_performance

BUNDLE = next(bundle for bundle in all_bundles() if bundle.recipe == "segmentation")


def test_the_surface_dice_stands_with_its_tolerance_where_it_was_measured():
    before = record(BUNDLE, 0.85)
    assert "| class | Dice | IoU |" in describe_performance(before, BUNDLE)
    metrics = before["metrics"]
    classes = {name: {**own, "nsd": {"mean": 0.95, "std": 0.02, "n": 5}} for name, own in metrics["classes"].items()}
    after = {**before, "metrics": {**metrics, "classes": classes, "surface_tolerance_mm": 1.5}}
    text = describe_performance(after, BUNDLE)
    assert "| class | Dice | NSD (1.5 mm) | IoU |" in text
    assert "| 0.8500 ± 0.0100 | 0.9500 ± 0.0200 | 0.8500 ± 0.0100 |" in text
