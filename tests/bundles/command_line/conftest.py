"""The bundles on the command line, in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes import isolated
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
