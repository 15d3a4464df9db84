"""Command lines in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.synthetic import BUNDLES, ONE_PER_RECIPE, ROOT, kind


@pytest.fixture(scope="session", params=BUNDLES, ids=lambda path: path.name)
def bundle(request) -> Path:
    return request.param


@pytest.fixture(scope="session")
def dataset(bundle, tmp_path_factory) -> Path:
    return kind(bundle).write(tmp_path_factory.mktemp("synthetic"))


FOREIGN = "foreign folder"
PLACES = [
    pytest.param(bundle, place, id=f"{bundle.name}-{place}")
    for bundle in BUNDLES
    for place in ("bundle folder", "repository root", FOREIGN)
    if bundle in ONE_PER_RECIPE or place == FOREIGN
]
from_places = pytest.mark.parametrize(("bundle", "place"), PLACES, indirect=True, scope="session")


@pytest.fixture(scope="session", params=[FOREIGN])
def place(request, bundle, tmp_path_factory) -> tuple[Path, str]:
    """Return a working directory and what is ``bundle_root`` from there."""
    return {
        "bundle folder": (bundle, "."),
        "repository root": (ROOT, str(bundle.relative_to(ROOT))),
        FOREIGN: (tmp_path_factory.mktemp("foreign"), str(bundle)),
    }[request.param]


def environment(**more: str) -> dict[str, str]:
    """Return this environment with one thread and without PYTHONPATH."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return {**kept, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **more}


def isolated(*arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run Python where the installed packages can be imported, but not the editable install of this one.

    Without ``site`` no ``.pth`` file is read, which is how an editable install gets onto the path.
    """
    variables = environment(PYTHONPATH=sysconfig.get_path("purelib"), **more)
    command = [sys.executable, "-S", *arguments]
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False)


def flags(overrides: dict[str, object]) -> list[str]:
    """Return overrides as command-line arguments."""
    return [text for key, value in overrides.items() for text in (f"--{key}", str(value))]


@pytest.fixture
def command_line(place):
    """Return a function that runs ``python -m monai.bundle`` from a place, isolated, and returns its output."""
    folder, root = place

    def call(command: str, *arguments: str, configs: tuple[str, ...] = (), fails: bool = False) -> str:
        files = [f"{root}/configs/{name}.json" for name in configs]
        chosen = ["--config_file", str(files) if len(files) > 1 else files[0]] if files else []
        rooted = ["--bundle_root", root] if files else []
        result = isolated("-m", "monai.bundle", command, *chosen, *rooted, *arguments, cwd=folder)
        assert (result.returncode != 0) is fails, result.stderr[-3000:]
        return result.stdout + result.stderr

    return call
