"""A comparison from the command line, of a few steps."""

from __future__ import annotations

import csv
import json

import pytest

from custom_networks.__main__ import COMMANDS
from custom_networks.command_line import run
from tests.synthetic import CASES, SEGMENTATION, kind

NETWORKS = "attention_unet:plain,monai:SegResNet"


pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    own = kind(SEGMENTATION[0])
    profile = folder / "mine.json"
    knobs = {
        "dataset_dir": str(own.write(folder / "data")),
        "in_channels": 1,
        "label_names": own.label_names,
        "spacing": [1.0, 1.0, 1.0],
        "patch_size": [24, 28, 22],
        "batch_size": 1,
        "num_workers": 0,
        "network_def#features": [4, 8, 16],
        "epochs": 99,
    }
    profile.write_text(json.dumps(knobs))
    arguments = ["compare", "--profile", str(profile), "--networks", NETWORKS, "--out", str(folder / "out"), "--alone"]
    return [*arguments, "--steps", "3", "--seeds", "2", "--learning_rates", "0.003"], folder / "out"


def test_a_comparison_ends_in_its_table(compared, capsys):
    arguments, out = compared
    assert run("custom_networks", COMMANDS, arguments, texts=True) == 0, capsys.readouterr()
    said = capsys.readouterr().out
    with (out / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    held_back = {row["case"] for row in rows}
    assert 0 < len(held_back) < CASES
    networks, classes = ["attention_unet:plain", "monai:SegResNet"], 2
    assert len(rows) == len(networks) * 2 * len(held_back) * classes
    assert {row["network"] for row in rows} == set(networks)
    report = json.loads((out / "comparison.json").read_text())
    first, second = report["networks"]
    assert first["difference"] is None
    assert second["difference"]["seeds"] == 2
    assert second["facts"]["parameters"] > first["facts"]["parameters"] > 0
    assert report["failed"] == {}
    assert f"NSD with a tolerance of {report['surface_tolerance_mm']:g} mm." in (out / "comparison.md").read_text()
    assert second["sentence"] in said
    assert second["sentence"] in (out / "comparison.md").read_text()
    assert (out / "comparison.png").is_file()
    # a search has no case that is scored
    splits = json.loads((out / "search_folds.json").read_text())
    assert not held_back & {*splits[0]["train"], *splits[0]["val"]}
    for name in ("attention_unet_plain", "monai_SegResNet"):
        rates = json.loads((out / name / "learning_rates.json").read_text())
        assert rates == {"0": {"learning_rate": 0.003}}
        profile = json.loads((out / name / "profile.json").read_text())
        assert profile["epochs"] * profile["steps_per_epoch"] == 3
        assert profile["val_interval"] == profile["epochs"]
        assert profile["patch_size"] == [24, 28, 24]


def test_what_is_done_is_not_done_again(compared, capsys):
    arguments, out = compared
    weights = {file: file.stat().st_mtime_ns for file in out.rglob("*.pt")}
    table = (out / "comparison.csv").read_bytes()
    assert run("custom_networks", COMMANDS, arguments, texts=True) == 0
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*.pt")} == weights
    assert (out / "comparison.csv").read_bytes() == table
    capsys.readouterr()
    assert run("custom_networks", COMMANDS, [*arguments[:-5], "4", *arguments[-4:]], texts=True) == 1
    assert "holds another comparison" in capsys.readouterr().err


def test_a_training_that_fails_is_named(compared, capsys):
    arguments, out = compared
    (out / "monai_SegResNet" / "fold0_seed1" / "metrics.json").unlink()
    (out / "monai_SegResNet" / "fold0_seed1" / "evaluated").unlink()
    (out / "monai_SegResNet" / "fold0_seed1" / "model.pt").write_bytes(b"no weights")
    assert run("custom_networks", COMMANDS, arguments, texts=True) == 1
    streams = capsys.readouterr()
    assert "failed: monai:SegResNet, fold 0, seed 1" in streams.out
    assert "1 of the trainings failed, monai:SegResNet, fold 0, seed 1 first" in streams.err
