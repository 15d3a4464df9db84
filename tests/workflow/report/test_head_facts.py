"""Sides, asymmetry and share of the head, and warnings that hold a side against crops of the training."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest

from custom_networks.workflow.report.head_facts import describe_head, percent_of_head, say_head, structures_of_head
from custom_networks.workflow.report.image_facts import image_facts
from custom_networks.workflow.report.plausibility import find_head_warnings
from custom_networks.workflow.report.training_data import read_training_data
from custom_networks.workflow.report.volumes import say, write_volumes
from tests.synthetic import SEGMENTATION
from tests.workflow.report.test_structure_volumes import HEADER, put, record, structure

PLACES = [{"name": "Left", "mirrored": False}, {"name": "Right", "mirrored": True}]
CLASSES = ["background", "Anterior", "Posterior"]
NAMES = ["Left-Anterior", "Left-Posterior", "Right-Anterior", "Right-Posterior"]


def crop(name, centre):
    return SimpleNamespace(region=SimpleNamespace(name=name), centre=np.array(centre, float))


def found(head, problems=()):
    crops = [crop("Left", (-20, 0, 0)), crop("Right", (20, 0, 0))]
    moved = [crop("Left", (-22, 0, 0)), crops[1]]
    return SimpleNamespace(located=SimpleNamespace(crops=crops, head=head), crops=moved, problems=list(problems))


def measured(*volumes):
    each = dict(zip(NAMES, volumes, strict=True))
    left, right = sum(volumes[:2]), sum(volumes[2:])
    each |= {"Left": left, "Right": right, "Total": left + right}
    return [structure(name, volume_ml=ml, voxels=round(1000 * ml)) for name, ml in each.items()]


def head_record(*volumes, head_ml=1500.0, problems=()):
    structures = measured(*volumes)
    head = describe_head(found({"head_ml": head_ml} if head_ml else {}, problems), structures, PLACES)
    return record(structures=structures, head=head)


def test_each_class_each_side_and_all_are_measured():
    structures = structures_of_head(PLACES, ["background", *NAMES], CLASSES)
    assert [(one.name, one.values) for one in structures] == [
        *((name, (value,)) for value, name in enumerate(NAMES, start=1)),
        ("Left", (1, 2)),
        ("Right", (3, 4)),
        ("Total", (1, 2, 3, 4)),
    ]
    alone = structures_of_head([{"name": "Stem"}], ["background", "Stem-A"], ["background", "A"])
    assert [one.name for one in alone] == ["Stem-A", "Stem"]


def test_the_asymmetry_is_the_difference_in_percent_of_the_mean():
    head = head_record(1.5, 1.8, 1.2, 1.5)["head"]
    assert head["asymmetry_index"] == pytest.approx(100 * (3.3 - 2.7) / 3.0)
    assert head["points_mm"] == {"Left": [-20, 0, 0], "Right": [20, 0, 0]}
    assert head["centres_mm"]["Left"] == [-22, 0, 0]
    assert head_record(0, 0, 0, 0)["head"]["asymmetry_index"] is None
    assert head_record(1, 1, 0, 0)["head"]["asymmetry_index"] == 200


def test_the_share_of_the_head_needs_its_size():
    made = head_record(1.5, 1.5, 1.5, 1.5)
    assert percent_of_head(made, made["structures"][-1]) == pytest.approx(0.4)
    unknown = head_record(1.5, 1.5, 1.5, 1.5, head_ml=None)
    assert percent_of_head(unknown, unknown["structures"][-1]) is None
    assert percent_of_head(record(), structure()) is None


def test_lines_say_sides_size_and_what_it_is_for():
    made = head_record(1.5, 1.8, 1.2, 1.5)
    lines = say(made)
    assert lines[4].split()[:3] == ["Left", "3.30", "mL"]
    assert lines[6].endswith("Left and Right")
    assert lines[7] == (
        "asymmetry +20.0 % (Left less Right, of their mean); 0.40 % of the head of about 1500 mL; research only, not for "
        "diagnosis"
    )
    assert say_head(record()) == []
    assert say_head(head_record(0, 0, 0, 0, head_ml=None)) == ["research only, not for diagnosis"]


def test_the_table_has_both_for_heads_alone_and_reads_old_records(tmp_path):
    put(tmp_path, case="crop")  # as before there were heads
    made = head_record(1.5, 1.8, 1.2, 1.5)
    (tmp_path / "head_seg.json").write_text(json.dumps({**made, "case": "head", "mask": "head_seg.nii.gz"}))
    write_volumes(tmp_path, HEADER)
    with (tmp_path / "volumes.csv").open(newline="") as file:
        rows = {(row["case"], row["structure"]): row for row in csv.DictReader(file)}
    assert rows["head", "Total"]["asymmetry_index"] == "20"
    assert rows["head", "Left"]["asymmetry_index"] == ""
    assert rows["head", "Left"]["percent_of_head"] == "0.22"
    assert rows["crop", "Anterior"]["asymmetry_index"] == rows["crop", "Anterior"]["percent_of_head"] == ""


def warnings_of(made, shape=(60, 70, 60), affine=None):
    image = np.zeros((1, *shape))
    image[0, 20:40, 20:50, 20:40] = np.random.default_rng(0).normal(100, 20, (20, 30, 20))
    facts = image_facts(image, np.diag([3.0, 3, 3, 1]) if affine is None else affine)
    known = read_training_data(SEGMENTATION[0] / "models" / "model.pt")
    assert known is not None
    found = find_head_warnings(made, facts, known, PLACES, CLASSES)
    return [(one["kind"], one["structure"]) for one in found]


def test_a_usual_head_gets_no_warning_for_its_size_or_its_air():
    assert warnings_of(head_record(1.6, 1.5, 1.6, 1.5), affine=np.diag([1.0, 1, 1, 1])) == []


def test_each_side_is_held_against_the_crops_of_the_training():
    usual = np.diag([1.0, 1, 1, 1])
    assert warnings_of(head_record(1.6, 9.0, 1.6, 1.5), affine=usual) == [("volume", "Left-Posterior")]
    assert warnings_of(head_record(1.6, 1.5, 0, 1.5), affine=usual)[0] == ("absent", "Right-Anterior")
    assert warnings_of(head_record(1.6, 1.5, 1.6, 1.5)) == [("spacing", None)]  # 3 mm


def test_what_the_registration_says_comes_first():
    made = head_record(1.6, 1.5, 1.6, 1.5, problems=["the head is turned"])
    assert warnings_of(made, affine=np.eye(4)) == [("head", None)]
