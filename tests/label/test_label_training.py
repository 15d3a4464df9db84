"""A training never makes the served weights worse: each runs in a process of its own, as the server starts it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from tests.label.conftest import SCORED, Server, ended, free_port, started, stopped, wait_for, write_studies
from tests.synthetic import ROOT, config, read_rows
from tools.ship.label import check_port, prepare

APP = ROOT / "tools" / "ship" / "label_app"
KEPT = re.compile(r"model_\d{8}T\d{6}Z\.pt")
SCRIPT = """
import json, logging, sys
app, bundle, cases, *requests = sys.argv[1:]
sys.path.insert(0, app)
logging.basicConfig(level=logging.INFO)
from fastapi import HTTPException
from label_server.training import Training

class Labels:
    def datalist(self):
        return json.loads(cases)

task = Training(bundle, {})
answers = []
for request in map(json.loads, requests):
    try:
        answers.append(task({"model": task.name, "device": "cpu", **request}, Labels()))
    except HTTPException as error:
        answers.append([error.status_code, error.detail])
print("RESULT" + json.dumps([answers, task.config(), task.stats()]))
"""


@dataclass
class Done:
    """What a process has answered."""

    answers: list[Any]
    options: dict[str, Any]
    stats: dict[str, str]
    log: str


@dataclass
class Bundle:
    """A bundle as the server has it, with labels that were corrected."""

    folder: Path
    cases: list[dict[str, str]]

    @property
    def weights(self) -> Path:
        return self.folder / "models" / "model.pt"

    def files(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "models").iterdir())

    def rate(self, value: float) -> None:
        """Set the learning rate of the profile for fine-tuning."""
        path = self.folder / "configs" / "profiles" / "finetune.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "learning_rate": value}))

    def rates(self) -> list[float]:
        """Return the learning rate after each epoch of the last training."""
        return [float(row["learning_rate"]) for row in read_rows(self.folder / "eval" / "training_curve.csv")]

    def weaken(self) -> None:
        """Take away what the last layer has learned: every voxel is background."""
        state = torch.load(self.weights, weights_only=True)
        torch.save({key: torch.zeros_like(v) if "head" in key else v for key, v in state.items()}, self.weights)

    def train(self, *asked: dict[str, Any]) -> Done:
        command = [sys.executable, "-c", SCRIPT, str(APP), str(self.folder), json.dumps(self.cases)]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        command += map(json.dumps, asked)
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/", check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        [line] = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
        return Done(*json.loads(line.removeprefix("RESULT")), done.stdout)  # the bundle's logging.conf logs there


@pytest.fixture
def bundle(tmp_path) -> Bundle:
    images, labels = write_studies(tmp_path)
    cases = [{"image": str(path), "label": str(labels / path.name)} for path in sorted(images.iterdir())]
    return Bundle(prepare(tmp_path / "app", [SCORED]) / "model" / SCORED, cases)


def test_better_weights_replace_and_worse_ones_do_not(bundle):
    bundle.weaken()
    bundle.rate(0.01)
    before = bundle.weights.read_bytes()
    done = bundle.train({"max_epochs": 4})
    [answer] = done.answers
    found = re.fullmatch(r"replaced, (\d\.\d{3}) to (\d\.\d{3}) on 1 case", answer["weights"])
    assert float(found[2]) > float(found[1])
    # the rate of the profile, which reaches zero with the last epoch
    assert bundle.rates() == pytest.approx([0.01 * (1 - epoch / 4) ** 0.9 for epoch in (1, 2, 3, 4)], rel=1e-4)
    kept, better = answer["kept_as"], bundle.weights.read_bytes()
    assert KEPT.fullmatch(kept)
    assert better != before
    assert (bundle.weights.with_name(kept)).read_bytes() == before
    known = f"{kept.removesuffix('.pt')}.training_data.json"  # as the bundle came
    assert bundle.files() == ["model.pt", kept, known, "training_cases.json", "training_data.json"]
    # offered to be brought back, not as a model
    assert done.options["model_filename"] == ["model.pt"]
    assert done.options["restore"] == ["", kept]

    # with the learning rate of the profile, which is absurd here; run_id is empty as in 3D Slicer
    bundle.rate(1.0)
    done = bundle.train({"max_epochs": 2, "run_id": ""})
    [answer] = done.answers
    assert answer == {"weights": f"kept, {found[2]} on 1 case"}
    assert f"weights of {SCORED}: {answer['weights']}" in done.log
    assert bundle.weights.read_bytes() == better
    assert bundle.files() == ["model.pt", kept, known, "training_cases.json", "training_data.json"]
    assert not (bundle.folder / "training").exists()
    assert (done.options["resume"], done.stats) == (False, {})

    done = bundle.train({"restore": kept})
    assert done.answers[0]["weights"] == f"restored, {kept}"
    assert bundle.weights.read_bytes() == before
    other = done.answers[0]["kept_as"]
    assert bundle.weights.with_name(other).read_bytes() == better
    # the records go with their weights
    stem = other.removesuffix(".pt")
    records = [f"{stem}.training_cases.json", f"{stem}.training_data.json"]
    assert bundle.files() == ["model.pt", other, *records, "training_data.json"]
    bundle.train({"restore": other})
    assert bundle.weights.read_bytes() == better
    assert {"training_cases.json", "training_data.json"} < set(bundle.files())


def test_a_training_from_nothing_is_compared_with_the_served_weights(bundle):
    """With the learning rate of a training, not that for fine-tuning."""
    bundle.weaken()
    bundle.rate(1.0)
    done = bundle.train({"max_epochs": 2, "pretrained": False})
    [answer] = done.answers
    assert done.log.index("the weights at the start: val_mean_dice 0.0") < done.log.index("epoch 2/")
    assert re.fullmatch(r"(kept, 0\.\d{3}|replaced, 0\.\d{3} to \d\.\d{3}) on 1 case", answer["weights"])
    assert bundle.rates() == pytest.approx([config(bundle.folder)["learning_rate"] * 0.5**0.9, 0], rel=1e-4)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"restore": "model_20200101T000000Z.pt"}, "no weights model_20200101T000000Z.pt of .* are kept; use one of"),
        ({"restore": "../../secret.pt"}, "no weights .* are kept; use one of: none yet"),
        ({"resume": True}, 'no interrupted training of .* is left to go on with; omit "resume"'),
        ({"model_filename": "other.pt"}, "a training starts from model.pt, got other.pt; send"),
    ],
    ids=["restore", "elsewhere", "resume", "start"],
)
def test_requests_that_cannot_be_met(server, asked, sentence):
    answer = server.ask("POST", f"/train/{SCORED}", params={"run_sync": "true"}, json=asked)
    assert answer.status_code == 422, answer.text
    assert re.search(sentence, answer.json()["detail"])


def serve(folder: Path) -> tuple[Server, subprocess.Popen]:
    port, log = free_port(), folder / "server.log"
    command = [sys.executable, "-m", "tools", "label", "serve", SCORED, "--studies", str(folder / "studies")]
    command += ["--app", str(folder / "app"), "--port", str(port), "--token", "none", "--python", sys.executable]
    environment = {**os.environ, "MONAI_LABEL_AUTO_UPDATE_SCORING": "false", "PYTHONDONTWRITEBYTECODE": "1"}
    url = f"http://127.0.0.1:{port}"
    process = started(command, environment, url, log)
    return Server(url, folder / "studies", folder / "labels", folder / "app", log), process


def test_a_server_that_was_killed_in_a_training_says_so_and_goes_on(tmp_path):
    write_studies(tmp_path)
    server, process = serve(tmp_path)
    for name in "abc":
        assert server.save_label(name, (server.labels / f"{name}.nii.gz").read_bytes()).ok
    bundle = server.app / "model" / SCORED
    before = (bundle / "models" / "model.pt").read_bytes()
    answer = server.ask("POST", f"/train/{SCORED}", json={"max_epochs": 5, "device": "cpu"})
    assert answer.ok, answer.text
    state = bundle / "training" / "last_checkpoint.pt"
    for _ in range(1200):
        if state.exists():
            break
        time.sleep(0.1)
    for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
        one.kill()
    process.wait()
    assert (bundle / "models" / "model.pt").read_bytes() == before

    server, process = serve(tmp_path)
    try:
        said = server.get("/info/").json()["train_stats"][SCORED]["interrupted"]
        assert re.search(rf"the training of {SCORED} .* was interrupted after epoch [1-4] of 5; train with", said)
        assert said in server.log.read_text()
        answer = server.ask("POST", f"/train/{SCORED}", json={"resume": True})
        assert answer.ok, answer.text
        done = server.wait("/train/")
        details = "\n".join(map(str, done["details"]))
        assert done["status"] == "DONE", details
        assert re.search(r"(kept, 0\.\d{3}|replaced, 0\.\d{3} to 0\.\d{3}) on 1 case", details)
        assert server.get("/info/").json()["train_stats"][SCORED] == {}
        assert not state.exists()
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()  # the command that was called, alone
        assert family
        for one in family:
            wait_for(lambda one=one: ended(one.pid))
        check_port("127.0.0.1", int(server.url.rpartition(":")[2]))
    finally:
        stopped(process)
