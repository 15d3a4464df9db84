"""A live MONAI Label server with all bundles, started by ``python -m tools label serve``; and the stock app."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest
import requests

from tests.conftest import SHARED
from tests.synthetic import BUNDLES, ROOT, SEGMENTATION, write_dataset
from tools.ship.label import prepare, start_command

SCORED = next(bundle.name for bundle in SEGMENTATION if "attention_unet" in bundle.name)
TOKEN = "the-token-of-these-tests"
ROLLED = "rolled_mr_attention_unet_segmentation"
PATCH = """

_forward = AttentionUnet.forward
AttentionUnet.forward = lambda self, x: _forward(self, x).roll(1, dims=1)
"""


@dataclass
class Server:
    """What a test needs of a running server."""

    url: str
    studies: Path
    labels: Path
    app: Path
    log: Path
    token: str = ""
    pid: int = 0

    def ask(self, method: str, path: str, timeout: int = 60, **options) -> requests.Response:
        """Ask with the token, where there is one."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= options.pop("headers", {})
        return requests.request(method, self.url + path, headers=headers, timeout=timeout, **options)

    def get(self, path: str, **params) -> requests.Response:
        return requests.get(self.url + path, params=params, timeout=60)

    def save_label(self, image: str, content: bytes, tag: str = "final", params: str = "{}") -> requests.Response:
        files = {"label": (f"{image}.nii.gz", content)}
        query = {"image": image, "tag": tag}
        return self.ask("PUT", "/datastore/label", params=query, data={"params": params}, files=files)

    def session(self, path: Path) -> str:
        """Send an image that is not in the studies, as 3D Slicer does, and return the id of its session."""
        answer = self.ask(
            "PUT", "/session/", files=[("files", (path.name, path.read_bytes()))], data={"client_id": "x"}
        )
        assert answer.ok, answer.text
        return answer.json()["session_id"]

    def infer(self, model: str, image: str, output: str = "image", session: str = "", **params) -> requests.Response:
        """Ask as 3D Slicer does."""
        data = {"params": json.dumps({"device": "cpu", "result_dtype": "uint8", **params})}
        query = {"image": image, "output": output, **({"session_id": session} if session else {})}
        return self.ask("POST", f"/infer/{model}", params=query, data=data, timeout=240)

    def mask(self, model: str, image: str, **params) -> nib.Nifti1Image:
        answer = self.infer(model, image, **params)
        assert answer.status_code == 200, answer.text
        content = answer.content
        return nib.Nifti1Image.from_bytes(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)

    def image(self, name: str) -> nib.Nifti1Image:
        return nib.load(self.studies / f"{name}.nii.gz")

    def wait(self, path: str) -> dict:
        """Wait for a task in the background."""
        for _ in range(480):
            answer = self.get(path)
            state = answer.json() if answer.status_code == 200 else {}
            if state.get("status") in ("DONE", "ERROR", "STOPPED"):
                return state
            time.sleep(0.5)
        raise TimeoutError(path)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def started(command: list[str], environment: dict[str, str], url: str, log: Path) -> subprocess.Popen:
    """Start a server and wait until it answers."""
    with log.open("w") as file:
        process = subprocess.Popen(
            command, env=environment, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    for _ in range(240):
        assert process.poll() is None, log.read_text()[-4000:]
        try:
            if requests.get(f"{url}/info/", timeout=5).ok:
                return process
        except requests.RequestException:
            time.sleep(0.5)
    raise TimeoutError(log.read_text()[-4000:])


def stopped(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(found):
    """Return what a function finds as soon as it finds anything."""
    for _ in range(1200):
        if result := found():
            return result
        time.sleep(0.1)
    raise TimeoutError(found)


def ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE  # whose parent does not look
    except psutil.NoSuchProcess:
        return True


def write_studies(folder: Path) -> tuple[Path, Path]:
    """Write four images, named a to d, and their labels: real ones where there are some."""
    real = SHARED / "data" / "Task04_Hippocampus"
    source = real if real.is_dir() else write_dataset(folder / "source", cases=4)
    images, labels = folder / "studies", folder / "labels"
    images.mkdir()
    labels.mkdir()
    for name, path in zip("abcd", sorted((source / "imagesTr").glob("*.nii.gz")), strict=False):
        shutil.copyfile(path, images / f"{name}.nii.gz")
        shutil.copyfile(source / "labelsTr" / path.name, labels / f"{name}.nii.gz")
    return images, labels


@pytest.fixture(scope="session")
def rolled(tmp_path_factory) -> Path:
    """Return a bundle with code of its own under the same names: its classes are one further."""
    folder = tmp_path_factory.mktemp("rolled") / ROLLED
    shutil.copytree(ROOT / "bundles" / SCORED, folder, ignore=shutil.ignore_patterns("runs", "eval"))
    shutil.copytree(ROOT / "custom_networks", folder / "custom_networks", ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "custom_networks" / "nets" / "attention_unet.py").open("a") as file:
        file.write(PATCH)
    return folder


@contextmanager
def served(folder: Path, *arguments: str, token: str = TOKEN) -> Iterator[Server]:
    """Run ``python -m tools label serve`` with bundles and options."""
    images, labels = write_studies(folder)
    port, app, log = free_port(), folder / "app", folder / "server.log"
    command = [sys.executable, "-m", "tools", "label", "serve", *arguments]
    command += ["--studies", str(images), "--app", str(app), "--port", str(port), "--token", token]
    environment = {**os.environ, "MONAI_LABEL_AUTO_UPDATE_SCORING": "false", "PYTHONDONTWRITEBYTECODE": "1"}
    url = f"http://127.0.0.1:{port}"
    process = started([*command, "--python", sys.executable], environment, url, log)
    yield Server(url, images, labels, app, log, "" if token == "none" else token, process.pid)
    stopped(process)


@pytest.fixture(scope="session")
def server(rolled, tmp_path_factory):
    arguments = [*(bundle.name for bundle in BUNDLES), str(rolled), "--epistemic", SCORED]
    with served(tmp_path_factory.mktemp("server"), *arguments) as server:
        yield server


@pytest.fixture(scope="session")
def stock(tmp_path_factory):
    """The app ``monaibundle`` that comes with MONAI Label, with the segmentation bundles."""
    folder = tmp_path_factory.mktemp("stock")
    images, labels = write_studies(folder)
    source = Path(sys.prefix) / "monailabel" / "sample-apps" / "monaibundle"
    shutil.copytree(source, folder / "app", ignore=shutil.ignore_patterns("__pycache__"))
    names = [bundle.name for bundle in SEGMENTATION]
    port, app = free_port(), prepare(folder / "app", names)
    command, environment = start_command(Path(sys.executable), app, images, names, None, "127.0.0.1", port)
    url, log = f"http://127.0.0.1:{port}", folder / "server.log"
    process = started(command, environment, url, log)
    yield Server(url, images, labels, app, log)
    stopped(process)


def flipped(image: nib.Nifti1Image, path: Path) -> Path:
    """Write the same image with its voxels stored in reverse order along the last axis."""
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, 2] * (image.shape[2] - 1)
    affine[:3, 2] *= -1
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[:, :, ::-1], affine), path)
    return path
