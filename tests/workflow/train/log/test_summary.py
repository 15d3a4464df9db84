from __future__ import annotations

import logging
import shlex
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from custom_networks.workflow import BestCheckpoint, say_end, say_start
from custom_networks.workflow.train.log import summary as module
from custom_networks.workflow.train.log.curve import write_row
from custom_networks.workflow.train.log.summary import next_command

NUMBERS = {"loss": "0.5", "learning_rate": "0.1", "seconds": "1"}


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, module.__name__)
    return caplog


def start(label_names=("background", "heart"), accumulate=1):
    state = SimpleNamespace(epoch_length=3, max_epochs=6, device="cpu")
    trainer = SimpleNamespace(state=state, network=nn.Identity(), accumulation_steps=accumulate)
    say_start(
        trainer,
        training=[1, 2, 3, 4, 5],
        validation=[1, 2],
        label_names=label_names,
        patch_size=(16, 16, 8),
        batch_size=2,
        amp=False,
        output_dir="my eval",
    )


def test_what_is_about_to_be_trained(log):
    start()
    assert log.messages == [
        "cases: 5 to train, 2 to validate",
        "classes: background, heart",
        "steps: patch 16 x 16 x 8, batch 2, 3 batches an epoch, 6 epochs, 18 batches in all",
        "device: cpu, the network in float32; watch it with: tensorboard --logdir 'my eval'",
    ]


def test_accumulated_batches_and_sides_are_said(log):
    start(["background", "lung_l", "lung_r"], accumulate=4)
    assert log.messages[1] == "classes: background, lung_l, lung_r; lung_l and lung_r keep flips off axis 0"
    assert "batch 2 x 4 accumulated" in log.messages[2]


def best_of(epoch: int, metric: float) -> BestCheckpoint:
    best = BestCheckpoint(nn.Linear(1, 1), "model.pt", [])
    best.best_epoch, best.best_metric = epoch, metric
    return best


def end(tmp_path, best):
    say_end(best, metric="mean Dice", output_dir=tmp_path, ckpt_dir=tmp_path / "weights")


def test_the_best_epoch_and_where_everything_is(log, tmp_path):
    curve = tmp_path / "training_curve.csv"
    for epoch, dice in ((1, "0.5"), (2, "0.7"), (3, "0.6")):
        write_row(curve, {"epoch": str(epoch), **NUMBERS, "validation_metric": dice, "dice_heart": dice})
    end(tmp_path, best_of(2, 0.7))
    assert log.messages == [
        "best epoch: 2, mean Dice 0.7000: heart 0.700",
        f"weights: {tmp_path}/weights/model.pt; curve: {curve}, {tmp_path}/training.png",
    ]


def test_without_matplotlib_one_sentence(log, tmp_path, monkeypatch):
    for name in (module.__name__, "custom_networks.workflow.train.log.curve"):
        monkeypatch.setattr(f"{name}.find_spec", lambda name: None)
    write_row(tmp_path / "training_curve.csv", {"epoch": "1", **NUMBERS, "validation_metric": ""})
    end(tmp_path, best_of(0, -1))
    assert log.messages[0] == "there is no training.png, which matplotlib draws; pip install matplotlib"
    assert not (tmp_path / "training.png").exists()
    assert len(log.messages) == 2


def test_only_the_first_process_says_anything(log, tmp_path, monkeypatch):
    monkeypatch.setattr(module.idist, "get_rank", lambda: 1)
    start()
    end(tmp_path, best_of(1, 1.0))
    assert not log.messages
    assert not list(tmp_path.iterdir())


def test_the_next_commands_are_those_of_a_shell(log, tmp_path, monkeypatch):
    files = "['b x/configs/train.json','b x/configs/multi_gpu_train.json']"
    names = "['background', 'a \"b\" $c']"
    argv = ["monai", "run", "--config_file", files, "--bundle_root=b x", "--label_names", names]
    monkeypatch.setattr("sys.argv", [*argv, "--ckpt_dir", "old", "--resume_ckpt", "old/last.pt", "--overwrite=True"])
    monkeypatch.setattr(module, "on_the_command_line", lambda: True)
    monkeypatch.setattr(module, "draw_curve", lambda *_: tmp_path / "training.png")
    end(tmp_path, best_of(1, 1.0))
    evaluate, predict = (shlex.split(message.partition(": ")[2]) for message in log.messages[-2:])
    shared = ["--bundle_root=b x", "--label_names", names]
    both = "['b x/configs/train.json', 'b x/configs/evaluate.json']"
    run, weights = ["python", "-m", "monai.bundle", "run", "--config_file"], ["--ckpt_dir", f"{tmp_path}/weights"]
    assert evaluate == [*run, both, *shared, *weights]
    image = ["--dataset_dir", "<image or folder>"]
    assert predict == [*run, "b x/configs/inference.json", *shared, *image, *weights]
    assert next_command(["run", "--config_file=b/train.json"], "inference", {}).endswith(
        "--config_file b/inference.json"
    )


def test_amp_is_said_as_what_it_is(log, monkeypatch):
    monkeypatch.setattr(module, "network_dtype", lambda *_: torch.bfloat16)
    start()
    assert "the network in bfloat16" in log.messages[3]
