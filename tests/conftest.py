"""What all tests share."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

pytest.register_assert_rewrite("tests.harness")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_configure():
    """Let signals reach the processes that tests start: what runs in the background or under nohup is deaf to some."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, usual)


def pytest_collection_modifyitems(items):
    """Measure no coverage in exports, tools and bundles, which see nothing new: the measuring doubles their time."""
    for item in items:
        check = item.callspec.params.get("check") if hasattr(item, "callspec") else None
        if item.path.parent.name in ("tools", "bundles") or getattr(check, "__module__", None) == "tests.exports":
            item.add_marker("no_cover")


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
