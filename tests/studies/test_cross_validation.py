"""A cross-validation with its trainings replaced: what is run, said, written, and what a failed fold leaves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from custom_networks.__main__ import main
from custom_networks.studies import cross_validation
from custom_networks.studies.children import CHILDREN
from custom_networks.workflow.data.training_cases import TrainingCases
from custom_networks.workflow.report.statistics import TOLERANCE
from tests.studies.bundle_runs import value
from tests.synthetic import CLASSIFICATION, KINDS, SEGMENTATION, change, config, read_rows, write_dataset

BUNDLE = SEGMENTATION[0]
LABELS = KINDS["segmentation"].label_names
CURVE = "epoch,loss,learning_rate,seconds,validation_metric\n1,2.0,0.1,3.0,\n2,1.5,0,4.54,0.25\n"
HEAD = "case,class,dice,hd95,reference_volume,prediction_volume"


class Folds:
    """Stand in for ``CHILDREN.run``: a training writes weights, an evaluation masks with a stray voxel and metrics."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.commands: list[list[str]] = []
        self.fails: set[int] = set()

    def __call__(self, command, environment, log, kept_open):
        self.commands.append(command)
        work, fold = Path(value(command, "output_dir")), int(value(command, "fold"))
        if fold in self.fails:
            log.write_text("error: the disk is full\n")
            return 1
        if "evaluate.json" not in value(command, "config_file"):
            (work / "model.pt").touch()
            (work / "training_curve.csv").write_text(CURVE)
            return 0
        lines = [HEAD]
        for number in range(fold, 7, 5):
            name = f"case_{number:02d}"
            shutil.copyfile(self.data / "labelsTr" / f"{name}.nii.gz", work / f"{name}_seg.nii.gz")
            change(work / f"{name}_seg.nii.gz", stray)
            lines += [f"{name},{label},0.{number + 1}{index},2,10,11" for index, label in enumerate(LABELS[1:])]
        (work / "metrics.csv").write_text("\n".join(lines) + "\n")
        (work / "metrics.json").write_text(json.dumps({"policy": {"empty": "no value"}, TOLERANCE: 1.5}))
        return 0


def stray(voxels):
    changed = np.array(voxels)
    changed[0, 0, 0] = 2
    return changed


@pytest.fixture
def folds(monkeypatch, tmp_path):
    fake = Folds(write_dataset(tmp_path / "data"))
    monkeypatch.setattr(CHILDREN, "run", fake)
    return fake


@pytest.fixture
def validate(folds, tmp_path, monkeypatch):
    """Return a function that runs the command and returns its exit code; its output goes to ``out``."""
    monkeypatch.setattr(cross_validation, "check_overrides", lambda *_: None)  # tests/workflow/guard/test_overrides.py
    profile = tmp_path / "mine.json"
    profile.write_text(
        json.dumps({"dataset_dir": str(folds.data), "label_names": LABELS, "seed": 5, "largest_component": True})
    )

    def call(*more):
        return main(["cross_validate", str(profile), "--bundle", str(BUNDLE), "--out", str(tmp_path / "out"), *more])

    return call


def read(folder, name="summary.json"):
    return json.loads((folder / "out" / name).read_text())


def test_every_fold_is_trained_and_measured(validate, folds, tmp_path, capsys):
    assert validate() == 0
    trainings = folds.commands[::2]
    assert [value(command, "fold") for command in trainings] == list("01234")
    for command in folds.commands:
        assert value(command, "largest_component") == "False"
        assert value(command, "val_interval") == str(config(BUNDLE)["epochs"])
        assert value(command, "args_file") == str(tmp_path / "mine.json")
        assert value(command, "output_dir") == str(tmp_path / "out" / f"fold{value(command, 'fold')}")
        assert "--seed" not in command
    said = capsys.readouterr().out.splitlines()
    assert f"fold 1: 5 cases to train on, 2 held back; {tmp_path}/out/fold1/train.log" in said
    assert "fold 1: Dice Small 0.450, Large 0.460" in said
    head = f"predict: custom_networks predict IMAGES --bundle {BUNDLE} --profile {tmp_path}/out/ensemble.json "
    assert said[-1] == head + " ".join(f"--folds {tmp_path}/out/fold{n}" for n in range(5)) + " --out RESULTS"


def test_the_table_holds_every_case_once_and_the_summary_what_it_means(validate, tmp_path):
    assert validate("--seed", "3") == 0
    rows = read_rows(tmp_path / "out" / "cross_validation.csv")
    assert list(rows[0]) == ["fold", *HEAD.split(",")]
    assert [(row["fold"], row["case"]) for row in rows[::2]] == [
        (str(fold), f"case_{number:02d}") for fold in range(5) for number in range(fold, 7, 5)
    ]
    summary = read(tmp_path)
    small = summary["classes"]["Small"]["dice"]
    assert small["mean"] == pytest.approx(np.mean([(number + 1) / 10 for number in range(7)]))
    assert small["fold_means"]["0"] == pytest.approx((0.1 + 0.6) / 2)
    assert summary["seed"] == 3
    assert summary["folds"] == {"of": 5, "finished": [0, 1, 2, 3, 4]}
    assert summary["cases"] == {"all": 7, "patients": 7, "held_back_in_no_fold": [], "held_back_several_times": []}
    assert summary["policy"] == {"empty": "no value"}
    assert summary["surface_tolerance_mm"] == 1.5
    assert summary["train_seconds"] == dict.fromkeys("01234", 7.5)
    assert {"python", "torch", "monai", "custom_networks"} <= summary["versions"].keys()
    decision = summary["largest_component"]
    assert decision["chosen"] == ["Large"]
    assert decision["classes"]["Small"]["with"] == decision["classes"]["Small"]["without"] == 1
    assert decision["classes"]["Large"]["with"] == 1 > decision["classes"]["Large"]["without"] > 0.9
    assert read(tmp_path, "ensemble.json") == {
        **json.loads((tmp_path / "mine.json").read_text()),
        "largest_component": ["Large"],
    }


def test_weights_to_start_from_that_have_seen_the_cases_are_named(validate, folds, tmp_path, capsys):
    start = tmp_path / "start" / "model.pt"
    start.parent.mkdir()
    start.write_bytes(b"weights")
    TrainingCases(folds.data, [{"case": "case_03"}], [{"case": "case_04"}]).write(start)
    profile = json.loads((tmp_path / "mine.json").read_text())
    (tmp_path / "mine.json").write_text(json.dumps({**profile, "finetune_ckpt": str(start)}))
    assert validate("--folds", "0") == 0
    said = capsys.readouterr().out
    assert "warning: 1 of the 7 cases to validate on, such as case_03, are called as some of the 1 cases that" in said


def test_called_again_nothing_is_done_twice_and_the_table_is_the_same(validate, folds, tmp_path, capsys):
    assert validate() == 0
    table = (tmp_path / "out" / "cross_validation.csv").read_bytes()
    assert validate() == 0
    assert len(folds.commands) == 10
    assert (tmp_path / "out" / "cross_validation.csv").read_bytes() == table
    assert validate("--seed", "7") == 1  # other trainings than those, which are left as they are
    assert "fold0 holds a run of another request" in capsys.readouterr().err
    assert (tmp_path / "out" / "cross_validation.csv").read_bytes() == table
    assert len(folds.commands) == 10


def test_a_fold_that_fails_is_named_and_the_others_finish(validate, folds, tmp_path, capsys):
    assert validate() == 0
    shutil.rmtree(tmp_path / "out" / "fold1")
    shutil.rmtree(tmp_path / "out" / "fold3")
    folds.fails = {1}
    assert validate("--jobs", "2") == 1
    out = tmp_path / "out"
    said = capsys.readouterr()
    log = out / "fold1" / "train.log"
    assert f"fold 1 failed: {log} ended with exit code 1: error: the disk is full" in said.out.splitlines()
    assert said.err.splitlines()[-1].startswith("error: 1 of 5 folds failed: 1; correct what is said of them above, ")
    assert not (out / "cross_validation.csv").exists()
    summary = read(tmp_path)
    assert list(summary["failed"]) == ["1"]
    assert str(log) in summary["failed"]["1"]
    assert summary["folds"]["finished"] == [0, 2, 3, 4]
    assert "classes" not in summary
    folds.fails = set()
    assert validate() == 0
    assert len(read_rows(out / "cross_validation.csv")) == 14


def test_some_folds_are_a_table_of_their_own(validate, folds, tmp_path):
    assert validate("--folds", "3,0") == 0
    assert read(tmp_path)["folds"] == {"of": 5, "finished": [0, 3]}
    assert {row["fold"] for row in read_rows(tmp_path / "out" / "cross_validation.csv")} == {"0", "3"}
    assert validate("--folds", "5") == 1


def test_cases_that_no_fold_measures_are_named(validate, folds, tmp_path, capsys):
    names = [f"case_{number:02d}" for number in range(7)]
    (folds.data / "splits_final.json").write_text(
        json.dumps([{"train": names[1:5], "val": [names[0], names[5]]}, {"train": [names[0]], "val": [names[1]]}])
    )
    assert validate() == 0
    missing = "case_02, case_03, case_04, case_06"
    assert capsys.readouterr().out.startswith(
        f"warning: 4 cases are held back in no fold and measured by none: {missing}\n"
    )
    assert read(tmp_path)["cases"]["held_back_in_no_fold"] == missing.split(", ")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--jobs", "0"], "--jobs must be a number from 1, got 0"),
        (["--jobs", "two"], "--jobs must be a number, got two"),
        (["--seed", "-1"], "--seed must be a number, got -1"),
        (["--jobs", "2", "--devices", "cuda:0"], "exclude each other"),
        (["--bundle", str(CLASSIFICATION[0])], "is given twice"),
    ],
)
def test_what_does_not_fit_is_refused(validate, folds, capsys, more, said):
    assert validate(*more) == 1
    assert said in capsys.readouterr().err
    assert folds.commands == []


def test_a_classifier_and_several_profiles_are_refused(tmp_path, capsys):
    (tmp_path / "mine.json").write_text("{}")
    for profile, bundle, said in (
        ("gate,demo", BUNDLE, "cross_validate takes one profile, got gate,demo; put them together in one file"),
        (str(tmp_path / "mine.json"), CLASSIFICATION[0], "does not segment, and no masks could be compared"),
        ("nothing", BUNDLE, "has no profile nothing"),
    ):
        assert main(["cross_validate", profile, "--bundle", str(bundle), "--out", str(tmp_path / "out")]) == 1
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
