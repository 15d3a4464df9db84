"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.case import Case

pytest.register_assert_rewrite("tests.harness")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _parameters(item) -> dict:
    return item.callspec.params if hasattr(item, "callspec") else {}


def _in_battery(item) -> bool:
    return isinstance(_parameters(item).get("case"), Case)


def _group(item) -> str:
    """Return what a test shares fixtures or graphs with others through: its case in a battery, its bundle, its file."""
    if _in_battery(item):
        return f"{item.path.stem}-{_parameters(item)['case'].name}"
    bundle = _parameters(item).get("bundle")
    return f"{item.path.parent.name}-{bundle.name if bundle else item.path.stem}"


def pytest_collection_modifyitems(items):
    """Group the tests for several workers, and measure no coverage in exports and tools, where nothing new is seen.

    Batteries come last, those of the networks first: their small groups fill the time that the others leave. The
    measuring of coverage doubles the time of exports and tools.
    """
    for item in items:
        if (
            item.path.parent.name == "tools"
            or getattr(_parameters(item).get("check"), "__module__", "") == "tests.exports"
        ):
            item.add_marker("no_cover")
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    items.sort(key=lambda item: (_in_battery(item), _in_battery(item) and item.path.parent.name != "nets"))


@pytest.fixture(autouse=True)
def _one_thread_one_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def oracle():
    """Return a function that loads a reference output by name, or skips the test where there is none."""

    def load(name: str) -> dict:
        path = SHARED / "oracles" / f"{name}.pt"
        if not path.is_file():
            pytest.skip(f"the reference output {name} is not at <repository>/../shared/oracles")
        return torch.load(path, weights_only=True)

    return load
