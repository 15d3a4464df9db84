from __future__ import annotations

import csv
import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from custom_networks.workflow import SegmentationReport
from custom_networks.workflow.report import case_report
from custom_networks.workflow.report.segmentation_report import (
    METRICS,
    POLICY,
    default_tolerance,
    segmentation_metrics,
    summarise,
)
from tests.synthetic import SEGMENTATION, config

SPACING = (0.7, 1.3, 2.5)
TOLERANCE = 1.5


def masks(seed: int, shape=(9, 8, 7)) -> tuple[torch.Tensor, torch.Tensor]:
    """Return two noisy blobs, of which one reaches the border of the image."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in shape), indexing="ij")
    result = []
    for centre, radius in (((3, 3, 3), 2.6), ((4, 4, 1), 3.2)):
        distance = sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True)).sqrt()
        result.append(distance + torch.rand(shape, generator=generator) < radius)
    return result[0], result[1]


def surface(mask: torch.Tensor) -> list[tuple[int, ...]]:
    """List the voxels with a face neighbour outside the mask, the image being surrounded by background."""
    inside = {tuple(v) for v in mask.nonzero().tolist()}
    steps = [tuple(sign * (axis == other) for other in range(3)) for axis in range(3) for sign in (-1, 1)]
    return [v for v in inside if any(tuple(a + b for a, b in zip(v, s, strict=True)) not in inside for s in steps)]


def percentile(values: list[float], q: float) -> float:
    values = sorted(values)
    position = q * (len(values) - 1)
    low = math.floor(position)
    high = min(low + 1, len(values) - 1)
    return values[low] + (position - low) * (values[high] - values[low])


def brute_force(
    prediction: torch.Tensor, reference: torch.Tensor, spacing, tolerance: float = TOLERANCE
) -> dict[str, float]:
    p, r = ({tuple(v) for v in mask.nonzero().tolist()} for mask in (prediction, reference))
    one, other = surface(prediction), surface(reference)

    def to_nearest(sources, targets):
        return [
            min(
                math.dist(*([a * s for a, s in zip(v, spacing, strict=True)] for v in pair))
                for pair in itertools.product([source], targets)
            )
            for source in sources
        ]

    there, back = to_nearest(one, other), to_nearest(other, one)
    iou = len(p & r) / len(p | r)
    return {
        "dice": 2 * len(p & r) / (len(p) + len(r)),
        "nsd": sum(distance <= tolerance for distance in there + back) / len(there + back),
        "iou": iou,
        "voe": 1 - iou,
        "rvd": (len(p) - len(r)) / len(r),
        "mean_surface_distance": sum(there + back) / len(there + back),
        "hd95": max(percentile(there, 0.95), percentile(back, 0.95)),
        "reference_volume": len(r) * math.prod(spacing),
        "prediction_volume": len(p) * math.prod(spacing),
    }


@pytest.mark.parametrize("seed", range(4))
def test_metrics_equal_a_brute_force_reference(seed):
    prediction, reference = masks(seed)
    want = brute_force(prediction, reference, SPACING)
    assert 0 < want["dice"] < 1
    assert 0 < want["nsd"] < 1
    assert want["mean_surface_distance"] < want["hd95"]
    got = segmentation_metrics(prediction, reference, SPACING, TOLERANCE)
    assert set(got) == set(want)
    assert got == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("tolerance", [0.1, 0.75, 1.35, 2.7, 5.0])
def test_the_surface_dice_equals_a_brute_force_reference(tolerance):
    prediction, reference = masks(1)
    want = brute_force(prediction, reference, SPACING, tolerance)["nsd"]
    assert segmentation_metrics(prediction, reference, SPACING, tolerance)["nsd"] == pytest.approx(want, rel=1e-6)


def test_the_surface_dice_of_shifted_boxes_by_hand():
    """Boxes of 4 x 4 x 4 voxels of 2 x 1 x 1 mm, 2 voxels apart along the first axis, with two planes in common."""
    prediction, reference = torch.zeros(2, 12, 10, 10, dtype=torch.bool)
    reference[2:6, 2:6, 2:6] = True
    prediction[4:8, 2:6, 2:6] = True
    plane, rim = 16, 12
    assert len(surface(reference)) == 2 * plane + 2 * rim
    # nothing between: of either mask the rims of the two planes in common
    got = segmentation_metrics(prediction, reference, (2.0, 1.0, 1.0), 0.5)["nsd"]
    assert got == pytest.approx(2 * 2 * rim / (2 * (2 * plane + 2 * rim)))
    # within 4 mm everything: a plane lies 2 voxels of 2 mm from that of the other
    assert segmentation_metrics(prediction, reference, (2.0, 1.0, 1.0), 4.0)["nsd"] == 1


def test_a_size_of_a_voxel_that_is_rounded_keeps_what_is_at_the_tolerance():
    """Boxes one voxel apart, at a tolerance of one voxel, whose header holds 0.70000005 for 0.7."""
    prediction, reference = torch.zeros(2, 10, 10, 10, dtype=torch.bool)
    reference[2:6, 2:6, 2:6] = True
    prediction[3:7, 2:6, 2:6] = True
    assert segmentation_metrics(prediction, reference, (0.70000005, 3, 3), 0.7)["nsd"] == 1
    assert segmentation_metrics(prediction, reference, (0.71, 3, 3), 0.7)["nsd"] < 1


@pytest.mark.parametrize("tolerance", [0, -1, math.nan, math.inf])
def test_a_tolerance_that_is_none_is_refused(tmp_path, tolerance):
    with pytest.raises(ValueError, match="tolerance must be a positive number of mm"):
        SegmentationReport(tmp_path, ["background", "A"], tolerance=tolerance)


@pytest.mark.parametrize("bundle", SEGMENTATION, ids=lambda path: path.name)
def test_the_tolerance_of_the_configs_is_that_of_the_package(bundle):
    handler = config(bundle, "evaluate")["validate#handlers"][0]
    parser = ConfigParser({"surface_tolerance": None, "spacing": [3.0, 1.0, 2.0], "tolerance": handler["tolerance"]})
    assert parser.get_parsed_content("tolerance") == default_tolerance([3.0, 1.0, 2.0]) == 2.0
    parser = ConfigParser({"surface_tolerance": 5, "spacing": [3.0, 1.0, 2.0], "tolerance": handler["tolerance"]})
    assert parser.get_parsed_content("tolerance") == 5


def test_the_surface_distances_are_one_pool():
    """A small and a large surface, whose two means differ, so that the pool is neither of them nor their mean."""
    prediction, reference = torch.zeros(2, 12, 12, 12, dtype=torch.bool)
    prediction[1, 1, 1] = True
    reference[4:11, 4:11, 4:11] = True
    there = [math.dist((1, 1, 1), (4, 4, 4))]
    back = [math.dist((1, 1, 1), voxel) for voxel in surface(reference)]
    got = segmentation_metrics(prediction, reference, (1, 1, 1), 1)["mean_surface_distance"]
    assert got == pytest.approx((sum(there) + sum(back)) / (1 + len(back)), rel=1e-6)
    assert got != pytest.approx((there[0] + sum(back) / len(back)) / 2, rel=0.1)


def test_a_perfect_mask():
    mask = masks(0)[0]
    got = segmentation_metrics(mask, mask, SPACING, TOLERANCE)
    assert {k: got[k] for k in METRICS} == {
        "dice": 1,
        "nsd": 1,
        "iou": 1,
        "voe": 0,
        "rvd": 0,
        "mean_surface_distance": 0,
        "hd95": 0,
    }


def test_policy_for_empty_masks():
    full = masks(1)[0]
    empty = torch.zeros_like(full)
    diagonal = math.sqrt(sum((n * s) ** 2 for n, s in zip(full.shape, SPACING, strict=True)))
    volume = int(full.sum()) * math.prod(SPACING)
    missed = segmentation_metrics(empty, full, SPACING, TOLERANCE)
    assert missed == pytest.approx(
        {
            "dice": 0,
            "nsd": 0,
            "iou": 0,
            "voe": 1,
            "rvd": -1,
            "mean_surface_distance": diagonal,
            "hd95": diagonal,
            "reference_volume": volume,
            "prediction_volume": 0,
        }
    )
    invented = segmentation_metrics(full, empty, SPACING, TOLERANCE)
    assert invented == pytest.approx(
        {
            "dice": 0,
            "nsd": 0,
            "iou": 0,
            "voe": 1,
            "rvd": math.nan,
            "mean_surface_distance": diagonal,
            "hd95": diagonal,
            "reference_volume": 0,
            "prediction_volume": volume,
        },
        nan_ok=True,
    )
    neither = segmentation_metrics(empty, empty, SPACING, TOLERANCE)
    assert all(math.isnan(neither[metric]) for metric in METRICS)
    assert neither["reference_volume"] == neither["prediction_volume"] == 0


def row(case: str, name: str, value: float, rvd: float | None = None) -> dict:
    volumes = {"reference_volume": 1.0, "prediction_volume": 2.0}
    return {
        "case": case,
        "class": name,
        **dict.fromkeys(METRICS, value),
        "rvd": value if rvd is None else rvd,
        **volumes,
    }


def test_summary_counts_only_the_cases_it_averages():
    rows = [
        row("x", "A", 0.5),
        row("y", "A", 0.9),
        row("z", "A", 0.0, rvd=math.nan),
        row("x", "B", math.nan),
        row("y", "B", 0.6),
        row("z", "B", math.nan),
        *(row(case, "C", math.nan) for case in "xyz"),
    ]
    summary = summarise(rows, ["background", "A", "B", "C"])
    assert summary["cases"] == 3
    a = summary["classes"]["A"]
    assert a["dice"]["n"] == 3
    assert a["dice"]["mean"] == pytest.approx((0.5 + 0.9 + 0) / 3)
    assert a["dice"]["std"] == pytest.approx(np.std([0.5, 0.9, 0]))
    assert a["rvd"] == {"mean": pytest.approx(0.7), "std": pytest.approx(0.2), "n": 2}
    assert summary["classes"]["B"]["hd95"] == {"mean": 0.6, "std": 0.0, "n": 1}
    assert summary["classes"]["C"]["dice"] == {"mean": None, "std": None, "n": 0}
    assert summary["mean"]["dice"] == pytest.approx(((0.5 + 0.9 + 0) / 3 + 0.6) / 2)
    assert summarise([row("x", "C", math.nan)], ["background", "C"])["mean"]["dice"] is None


def output(name: str, prediction: torch.Tensor, reference: torch.Tensor, affine=None) -> dict:
    """Return what the evaluator's postprocessing gives for one case with two foreground classes."""
    background = ~(prediction | reference)
    empty = torch.zeros_like(reference)
    affine = torch.diag(torch.tensor([*SPACING, 1.0])) if affine is None else affine
    label = MetaTensor(
        torch.stack([background, reference, empty]).float(), affine=affine, meta={"filename_or_obj": "no/name.nii.gz"}
    )
    return {"case": name, "pred": torch.stack([background, prediction, empty]).float(), "label": label}


def located(folder: Path, case: dict) -> dict:
    """Return a case whose image and label say where they were read from."""
    for key in ("image", "label"):
        volume = MetaTensor(case["label"].as_tensor(), affine=case["label"].affine)
        case[key] = volume
    for key in ("image", "label"):
        case[key].meta["filename_or_obj"] = str(folder / f"{key}.nii.gz")
    return case


def evaluate(report: SegmentationReport, *outputs: dict) -> None:
    """Run an Ignite engine that gives the outputs one by one."""
    engine = Engine(lambda _, batch: batch)  # the case is in the batch as in the output
    report.attach(engine)
    engine.run([[output] for output in outputs], max_epochs=1)


def read(folder) -> tuple[list[list[str]], dict]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.reader(file)), json.loads((folder / "metrics.json").read_text())


def test_report_writes_one_row_per_case_and_class(tmp_path):
    prediction, reference = masks(2)
    folder = tmp_path / "deep" / "eval"
    report = SegmentationReport(folder, ["background", "Posterior", "Anterior"], tolerance=TOLERANCE)
    for _ in range(2):  # a second evaluation starts from nothing
        evaluate(report, output("b", prediction, reference), output("a", reference, reference))
    rows, summary = read(folder)
    assert rows[0] == (
        "case class dice nsd iou voe rvd mean_surface_distance hd95 reference_volume prediction_volume".split()
    )
    assert [r[:2] for r in rows[1:]] == [["a", "Posterior"], ["a", "Anterior"], ["b", "Posterior"], ["b", "Anterior"]]
    want = brute_force(prediction, reference, SPACING)
    assert dict(zip(rows[0][2:], map(float, rows[3][2:]), strict=True)) == pytest.approx(want, rel=1e-5)
    assert rows[4][2:] == ["nan"] * 7 + ["0", "0"]
    assert summary["cases"] == 2
    assert summary["policy"] == POLICY
    assert summary["surface_tolerance_mm"] == TOLERANCE
    assert summary["classes"]["Posterior"]["dice"]["mean"] == pytest.approx((1 + want["dice"]) / 2)
    assert summary["classes"]["Anterior"]["dice"]["n"] == 0
    assert summary["mean"]["dice"] == summary["classes"]["Posterior"]["dice"]["mean"]
    assert sorted(p.name for p in folder.iterdir()) == ["metrics.csv", "metrics.json"]


def test_the_summary_says_where_the_images_are_and_what_the_labels_hold(tmp_path):
    prediction, reference = masks(2)
    names = ["background", "A", "B"]
    report = SegmentationReport(tmp_path, names, label_values=[0, [500, 600], 7], tolerance=1)
    evaluate(report, located(tmp_path, output("a", prediction, reference)), output("b", prediction, reference))
    summary = read(tmp_path)[1]
    assert summary["values"] == {"A": [500, 600], "B": [7]}
    assert summary["files"] == {"a": {key: str(tmp_path / f"{key}.nii.gz") for key in ("image", "label")}}
    report = SegmentationReport(tmp_path, names, regions=[[1, 2], 2], tolerance=1)
    evaluate(report, output("a", prediction, reference))
    assert read(tmp_path)[1]["values"] == {"A": [1, 2], "B": [2]}


def test_spacing_comes_from_the_columns_of_the_affine(tmp_path):
    prediction, reference = masks(3)
    turned = torch.eye(4)
    turned[:3, :3] = torch.tensor([[0.0, -SPACING[1], 0], [SPACING[0], 0, 0], [0, 0, -SPACING[2]]])
    report = SegmentationReport(tmp_path, ["background", "A", "B"], tolerance=1)
    evaluate(report, output("a", prediction, reference, turned))
    want = brute_force(prediction, reference, SPACING)
    hd95 = float(read(tmp_path)[0][1][8])
    assert hd95 == pytest.approx(want["hd95"], rel=1e-5)
    assert hd95 != pytest.approx(brute_force(prediction, reference, (1, 1, 1))["hd95"], rel=0.05)


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_process_writes_the_rows_of_all(tmp_path, monkeypatch, rank):
    prediction, reference = masks(0)
    nowhere = {"image": None, "label": None}
    elsewhere = [{**row("a", name, 0.25), "files": nowhere} for name in ("A", "B")]

    def all_gather_object(parts, mine):
        parts[:] = [mine, elsewhere] if rank == 0 else [elsewhere, mine]

    fake = SimpleNamespace(
        is_available=lambda: True,
        is_initialized=lambda: True,
        get_world_size=lambda: 2,
        get_rank=lambda: rank,
        all_gather_object=all_gather_object,
    )
    monkeypatch.setattr(case_report, "dist", fake)
    report = SegmentationReport(tmp_path / "eval", ["background", "A", "B"], tolerance=1)
    evaluate(report, output("b", prediction, reference))
    if rank:
        assert not (tmp_path / "eval").exists()
    else:
        rows, summary = read(tmp_path / "eval")
        assert [r[0] for r in rows[1:]] == ["a", "a", "b", "b"]
        assert summary["cases"] == 2
        assert summary["classes"]["B"]["dice"] == {"mean": 0.25, "std": 0.0, "n": 1}


def test_nothing_is_half_written(tmp_path, monkeypatch):
    prediction, reference = masks(0)
    report = SegmentationReport(tmp_path, ["background", "A", "B"], tolerance=1)
    evaluate(report, output("a", prediction, reference))
    before = [(tmp_path / name).read_bytes() for name in ("metrics.csv", "metrics.json")]

    def crash(*_):
        raise OSError("disk")

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(OSError, match="disk"):
        evaluate(report, output("a", reference, reference))
    assert [(tmp_path / name).read_bytes() for name in ("metrics.csv", "metrics.json")] == before
