"""Requests of bundles that run in processes of their own: one that waits, is left, is killed, or is too large.

A bundle whose network waits while a file exists stands for a whole head, so that nothing here depends on a clock. The
tests share one server and run in the order of this file; the last one ends it.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest
import torch

from custom_networks.workflow.memory.bill import available_bytes
from tests.label.conftest import SCORED, Server, ended, free_port, started, stopped, wait_for, write_studies
from tests.synthetic import ROOT
from tools.ship.label import check_port

HELD = "held_mr_attention_unet_segmentation"
PATCH = """

import os
import time
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_forward = AttentionUnet.forward


def _held(self, x):
    (_ROOT / "running").write_text(str(os.getpid()))
    while (_ROOT / "hold").exists():
        time.sleep(0.05)
    return _forward(self, x)


AttentionUnet.forward = _held
"""
QUEUE = 8
SERVER = """
from pathlib import Path

from label_server.workers import Worker

request = {{"model": "held", "image": "{held.server.studies}/a.nii.gz", "device": "cpu"}}
worker = Worker(Path("{held.bundle}"), "segmentation", {{"idle_seconds": "0.1"}})
worker.run(request)
"""


def answer_of(client: http.client.HTTPConnection) -> tuple[int, bytes]:
    """Wait for the answer and leave."""
    with client.getresponse() as answer:
        found = answer.status, answer.read()
    client.close()
    return found


@dataclass
class Held:
    """The server, the command that runs it, and the bundle that waits."""

    server: Server
    process: subprocess.Popen
    bundle: Path

    def hold(self) -> None:
        """Let the network wait from now on."""
        (self.bundle / "running").unlink(missing_ok=True)
        (self.bundle / "hold").touch()

    def release(self) -> None:
        (self.bundle / "hold").unlink()

    def pid(self) -> int:
        """Wait until the network runs and return the process that it runs in."""
        running = self.bundle / "running"
        return int(wait_for(lambda: running.is_file() and running.read_text()))

    def ask(self) -> http.client.HTTPConnection:
        """Send a request to the bundle that waits; the connection is the client."""
        client = http.client.HTTPConnection(self.server.url.removeprefix("http://"), timeout=120)
        client.request("POST", f"/infer/{HELD}?image=a&output=image")
        return client

    def save(self, name: str, image: np.ndarray, spacing: float) -> str:
        path = self.server.studies / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(image, np.diag([spacing, spacing, spacing, 1])), path)
        return str(path)


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    bundle = folder / HELD
    shutil.copytree(ROOT / "bundles" / SCORED, bundle, ignore=shutil.ignore_patterns("runs", "eval"))
    shutil.copytree(ROOT / "custom_networks", bundle / "custom_networks", ignore=shutil.ignore_patterns("__pycache__"))
    with (bundle / "custom_networks" / "nets" / "attention_unet.py").open("a") as file:
        file.write(PATCH)
    images, labels = write_studies(folder)
    shutil.copytree(labels, images / "labels" / "final")
    port, app, log = free_port(), folder / "app", folder / "server.log"
    command = [sys.executable, "-m", "tools", "label", "serve", SCORED, str(bundle), "--studies", str(images)]
    command += ["--app", str(app), "--port", str(port), "--token", "none", "--python", sys.executable]
    url = f"http://127.0.0.1:{port}"
    process = started(command, {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, url, log)
    yield Held(Server(url, images, labels, app, log), process, app / "model" / HELD)
    if process.poll() is None:
        stopped(process)


def test_a_client_that_leaves_stops_its_own_request_alone(held):
    held.hold()
    leaving = held.ask()
    pid = held.pid()
    waiting = held.ask()
    other = held.server.mask(SCORED, "a")
    assert held.server.get("/info/").ok
    assert not ended(pid)
    leaving.close()
    wait_for(lambda: ended(pid))
    held.release()
    assert answer_of(waiting)[0] == 200
    np.testing.assert_array_equal(held.server.mask(HELD, "a").dataobj, other.dataobj)


def test_a_queue_that_is_full(held):
    held.hold()
    clients = {client.sock: client for client in (held.ask() for _ in range(QUEUE + 3))}
    refused = wait_for(lambda: len(found := select.select(clients, [], [], 0)[0]) == 2 and found)
    for sock in refused:
        status, body = answer_of(clients.pop(sock))
        assert status == 429
        detail = f"{QUEUE} requests are waiting for {HELD} already; ask again in a minute"
        assert json.loads(body) == {"detail": detail}
    pid = held.pid()
    for client in clients.values():
        client.close()
    wait_for(lambda: ended(pid))
    held.release()
    assert held.server.infer(HELD, "a").status_code == 200


def test_a_process_that_is_killed(held):
    held.hold()
    client = held.ask()
    os.kill(held.pid(), signal.SIGKILL)
    status, body = answer_of(client)
    assert status == 503
    assert f"the process of {HELD} was killed, mostly for want of memory" in json.loads(body)["detail"]
    held.release()
    assert held.server.infer(HELD, "a").status_code == 200


@pytest.mark.parametrize(
    ("share", "status", "words"),
    [
        (0.4, 413, r"has 20 x 20 x 20 voxels, .* would take [\d.]+ GB of memory where [\d.]+ GB are free; crop it, or"),
        (100, 422, r"cannot be used: .* has \(20, 20, 20\) voxels and would have .* GB are free; correct the voxel"),
    ],
)
def test_an_image_that_the_memory_does_not_hold(held, share, status, words):
    """By itself it takes a share of the free memory."""
    voxels = (share * available_bytes(torch.device("cpu")) / 4) ** (1 / 3)
    path = held.save("large", np.zeros((20, 20, 20), np.float32), (voxels - 1) / 19)
    answer = held.server.infer(SCORED, path)
    assert answer.status_code == status, answer.text
    assert re.search(words, answer.json()["detail"])


def test_what_is_odd_about_an_image_is_in_the_answer(held):
    path = held.save("long", np.random.default_rng(0).normal(size=(10, 12, 120)).astype(np.float32), 1)
    odd, usual = (
        [warning["text"] for warning in answer.json()["warnings"] if warning["kind"] == "size"]
        for answer in (held.server.infer(SCORED, image, output="json") for image in (path, "a"))
    )
    assert len(odd) == 2
    assert "the image has (10, 12, 120) voxels after resampling, more than" in odd[0]
    assert "the image is 10 x 12 x 120 mm" in odd[1]
    assert not usual


def test_a_training_lets_other_bundles_work(held):
    held.hold()
    answer = held.server.ask("POST", f"/train/{HELD}", json={"max_epochs": 1, "device": "cpu"})
    assert answer.ok, answer.text
    pid = held.pid()
    assert held.server.infer(SCORED, "a").status_code == 200
    assert held.server.get("/train/").json()["status"] == "RUNNING"
    os.kill(pid, signal.SIGKILL)
    assert held.server.wait("/train/")["status"] == "ERROR"
    held.release()


def test_a_process_ends_with_a_server_that_is_killed(held):
    """Even where the network runs, which does not ask whether anybody is there."""
    held.hold()
    with subprocess.Popen([sys.executable, "-c", SERVER.format(held=held)], cwd=held.server.app) as process:
        pid = held.pid()
        process.kill()
    wait_for(lambda: ended(pid))
    held.release()


def test_a_process_that_nobody_asks_ends_and_the_next_request_starts_another(held):
    code = SERVER.format(held=held) + "worker.running[0].wait()\nworker.run(request)\n"
    subprocess.run([sys.executable, "-c", code], cwd=held.server.app, check=True, timeout=120)


def test_sigterm_ends_server_and_processes_and_frees_the_port(held):
    held.hold()
    client = held.ask()
    pid = held.pid()
    family = psutil.Process(held.process.pid).children(recursive=True)
    assert pid in {process.pid for process in family}
    held.process.terminate()
    assert held.process.wait(60) == 143
    client.close()
    for process in family:
        wait_for(lambda process=process: ended(process.pid))
    check_port("127.0.0.1", int(held.server.url.rpartition(":")[2]))  # as the next start does
