"""Folders of empty files: a layout is told by names alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    """Return a function that writes empty files, and a dataset.json if one is given, and returns their folder."""

    def call(*files: str, index: object = None, name: str = "set") -> Path:
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        for file in files:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).touch()
        if index is not None:
            (root / "dataset.json").write_text(json.dumps(index))
        return root

    return call
