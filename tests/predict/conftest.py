"""Images that differ, and the command run in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from custom_networks import __main__ as users
from tests.synthetic import SEGMENTATION, volume, write_nifti

BUNDLE = SEGMENTATION[0]


@pytest.fixture
def images(tmp_path) -> Path:
    """A folder with images at two depths."""
    for number, name in enumerate(("first.nii.gz", "second.nii.gz", "more/third.nii")):
        write_nifti(volume(number)[0], tmp_path / "images" / name)
    return tmp_path / "images"


@pytest.fixture
def predict(tmp_path, capsys) -> Callable[..., tuple[int, list[dict[str, Any]], str]]:
    """Return a function that runs the command and returns exit code, its JSON lines, and standard error."""

    def call(*inputs: object, bundle: object = BUNDLE, out: str = "result", **more: object) -> tuple[int, list, str]:
        arguments = [str(given) for given in inputs]
        options = {"out": tmp_path / out, "bundle": bundle, "json": True, **more}
        for name, value in options.items():
            for one in value if isinstance(value, list) else [value]:
                arguments += [f"--{name.replace('_', '-')}"] + ([] if one is True else [str(one)])
        capsys.readouterr()
        code = users.main(["predict", *arguments])
        said = capsys.readouterr()
        return code, [json.loads(line) for line in said.out.splitlines()], said.err

    return call
