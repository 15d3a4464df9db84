"""Profiles for a GPU and for a number of minutes, through the command: what they say, that they train, the refusals."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import monai.bundle
import numpy as np
import pytest
import torch

from custom_networks.__main__ import main
from custom_networks.adapt.commands import adapt
from custom_networks.adapt.draft import Draft
from custom_networks.adapt.network import build, step_bytes
from custom_networks.workflow.guard.knobs import wrong_knob
from tests.synthetic import (
    CLASSIFICATION,
    ONE_PER_RECIPE,
    SEGMENTATION,
    change,
    config,
    each,
    each_slowly,
    kind,
    paths,
    read_rows,
    write_dataset,
    write_patches,
)

UNET = SEGMENTATION[0].name
GB = 10**9


@pytest.fixture
def data(tmp_path) -> Path:
    return write_dataset(tmp_path / "data")


def train(bundle: Path, profile: Path, **overrides: object) -> None:
    monai.bundle.run(
        config_file=paths(bundle, "train"),
        bundle_root=str(bundle),
        logging_file=False,
        args_file=str(profile),
        **overrides,
    )


@each_slowly(SEGMENTATION)
def test_a_plan_for_a_gpu_that_is_elsewhere(bundle, data, tmp_path, capsys):
    out = tmp_path / "mine.json"
    profile = adapt(str(data), bundle=bundle.name, out=str(out), device="cuda", memory="8GB")
    assert wrong_knob(profile) is None
    assert "device" not in profile, "the training chooses it, each process of several its own"
    assert (profile["epochs"], profile["steps_per_epoch"], profile["val_interval"]) == (1000, 250, 100)
    assert profile["batch_size"] == 2
    assert profile["network_def#features"][:2] in ([32, 64], [32, 32])
    network, laid_over = build(bundle, profile), {**config(bundle), **profile}
    need = step_bytes(network, laid_over, profile["patch_size"], 2, torch.device("cuda"))
    assert need <= 0.85 * 8 * GB
    if "gate_warm_up_epochs" in laid_over:
        assert profile["gate_warm_up_epochs"] == round(1000 * 4 / 28)
    printed = capsys.readouterr().out
    assert "cuda, 8.0 GB  (a GPU, memory: --memory; this machine has none, the plan is for another one)" in printed
    assert "at most 5% of the voxels, 2 or more; a step is expected to take" in printed


def test_a_plan_for_a_gpu_trains(data, tmp_path):
    """On the processor of the tests, by the profile alone but for its length."""
    out = tmp_path / "mine.json"
    adapt(str(data), bundle=UNET, out=str(out), device="cuda", memory="8GB")
    train(SEGMENTATION[0], out, epochs=2, val_interval=2, steps_per_epoch=1, device="cpu")
    rows = read_rows(tmp_path / "mine" / "training_curve.csv")
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[-1]["learning_rate"]) == pytest.approx(0.0, abs=1e-12)


def test_a_gpu_plan_of_the_classifier(tmp_path, capsys):
    """Full width, and a batch of at most 5 % of the patches, two or more."""
    (bundle,) = CLASSIFICATION
    root = write_patches(tmp_path / "patches")
    profile = adapt(str(root), bundle=bundle.name, out=str(tmp_path / "mine.json"), device="cuda", memory="24GB")
    assert profile["network_def#features"] == [64, 128]
    assert profile["batch_size"] == 2
    assert (profile["epochs"], profile["steps_per_epoch"]) == (1000, 250)
    assert "full width" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"takes .* with a batch of 2, but --memory allows 34 MB; give more"):
        adapt(str(root), bundle=bundle.name, out=str(tmp_path / "mine.json"), device="cuda", memory="40MB")


def test_the_device_that_is_given_is_in_the_profile(data, tmp_path):
    out = str(tmp_path / "mine.json")
    assert "device" not in adapt(str(data), bundle=UNET, out=out)
    assert adapt(str(data), bundle=UNET, out=out, device="cpu")["device"] == "cpu"
    assert adapt(str(data), bundle=UNET, out=out, device="cuda:1", memory="8GB")["device"] == "cuda:1"


@each(ONE_PER_RECIPE)
def test_minutes_give_a_schedule_that_trains(bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("custom_networks.adapt.pace._seconds_of_imports", lambda: 0.0)
    root, out = kind(bundle).write(tmp_path / "data"), tmp_path / "mine.json"
    profile = adapt(str(root), bundle=bundle.name, out=str(out), device="cpu", minutes=3)
    printed = capsys.readouterr().out
    steps, epochs = (
        int(re.search(pattern, printed, re.MULTILINE)[1])
        for pattern in (r"^minutes +3  \((\d+) steps", r"^epochs +(\d+)  ")
    )
    per_epoch = profile["steps_per_epoch"] or math.ceil(kind(bundle).training_cases / profile["batch_size"])
    assert (epochs, steps) == (profile["epochs"], profile["epochs"] * per_epoch)
    assert epochs >= 10
    assert math.ceil(epochs / profile["val_interval"]) <= 10
    assert json.loads(out.read_text()) == profile
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "mine.json"], "the measured training is gone"
    train(bundle, out, epochs=1, val_interval=1, steps_per_epoch=1)
    assert (tmp_path / "mine" / "model.pt").is_file()


def test_minutes_know_folds_that_are_not_written_yet(tmp_path, monkeypatch):
    monkeypatch.setattr("custom_networks.adapt.pace._seconds_of_imports", lambda: 0.0)
    root = write_dataset(tmp_path / "data", cases=6)
    for folder in ("imagesTr", "labelsTr"):
        for number, path in enumerate(sorted((root / folder).iterdir())):
            path.rename(path.with_name(f"p{number // 2}_{'ab'[number % 2]}.nii.gz"))
    (root / "dataset.json").unlink()
    profile = adapt(str(root), bundle=UNET, out=str(tmp_path / "mine.json"), device="cpu", minutes=3)
    assert Path(profile["folds_file"]).is_file()


def test_too_few_minutes_write_nothing(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("custom_networks.adapt.pace._seconds_of_imports", lambda: 100.0)
    out = tmp_path / "mine.json"
    assert main(["adapt", str(data), "--bundle", UNET, "--out", str(out), "--device", "cpu", "--minutes", "1"]) == 1
    assert "error: 1 minutes do not suffice: the start takes 10" in capsys.readouterr().err
    assert not out.exists()


def test_a_class_that_no_training_case_has_is_named(data, tmp_path, capsys):
    """Whether others have it or none."""
    for path in (data / "labelsTr").iterdir():
        change(path, lambda label: np.minimum(label, 1))
    index = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({**index, "labels": {"background": 0, "organ": 1, "spleen": 2}}))
    adapt(str(data), bundle=UNET, out=str(tmp_path / "mine.json"))
    warning = r"^warning +no voxel of {}  \(none of the 5 cases to train on has it, so nothing can learn it; add cases"
    assert re.search(warning.format("spleen"), capsys.readouterr().out, re.MULTILINE)
    change(data / "labelsTr" / "case_00.nii.gz", lambda label: 2 * label)  # of the first fold, which validates
    adapt(str(data), bundle=UNET, out=str(tmp_path / "mine.json"))
    assert re.search(warning.format("spleen"), capsys.readouterr().out, re.MULTILINE)
    change(data / "labelsTr" / "case_01.nii.gz", lambda label: 2 * label)
    adapt(str(data), bundle=UNET, out=str(tmp_path / "mine.json"))
    assert "warning" not in capsys.readouterr().out


def test_a_line_replaces_an_earlier_one_of_the_same():
    draft = Draft()
    for what, value in (("batch_size", "2"), ("epochs", "3"), ("batch_size", "1")):
        draft.say(what, value, "why")
    assert draft.lines == [("batch_size", "1", "why"), ("epochs", "3", "why")]


REFUSED = {
    "device": (
        ["--device", "gpu"],
        "device must be auto, cpu, cuda or cuda:<number>, got 'gpu'; write for example cuda:0",
    ),
    "absent device": (
        ["--device", "cuda"],
        "there is no device cuda here whose memory could be measured; give --memory",
    ),
    "memory": (["--device", "cuda", "--memory", "lots"], "memory must be a size such as 8GB or 512MB, got 'lots'"),
    "no memory": (["--device", "cuda", "--memory", "50MB"], "more than 85% of 50 MB; give more memory, or plan with"),
    "minutes": (["--minutes", "-3"], "minutes must be a positive number, got '-3'; write for example --minutes 30"),
    "minutes in words": (["--minutes", "ten"], "minutes must be a positive number, got 'ten'"),
    "absent minutes": (
        ["--device", "cuda", "--memory", "8GB", "--minutes", "30"],
        "--minutes needs the steps measured, but there is no device cuda:0 here; leave --minutes out, or run adapt on",
    ),
}


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a machine with a GPU it is there")
@pytest.mark.parametrize(("arguments", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_in_one_sentence(data, tmp_path, capsys, arguments, sentence):
    out = tmp_path / "mine.json"
    assert main(["adapt", str(data), "--bundle", UNET, "--out", str(out), *arguments]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert sentence in error
    assert not out.exists()


@pytest.mark.parametrize("option", [["--device", "cpu"], ["--memory", "8GB"], ["--minutes", "5"]])
def test_plans_of_nnunet_are_for_no_machine(tmp_path, capsys, option):
    assert main(["adapt", "--plans", "plans.json", "--out", str(tmp_path / "mine.json"), *option]) == 1
    assert "leave out --device, --memory and --minutes" in capsys.readouterr().err
