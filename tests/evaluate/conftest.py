"""The command, run in this process."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from custom_networks import __main__ as users


class Result(NamedTuple):
    """What a call left behind: exit code, standard output and error, and by case and class the rows of metrics.csv."""

    code: int
    out: str
    err: str
    rows: dict[tuple[str, str], dict[str, float]]
    summary: dict[str, Any]


@pytest.fixture
def evaluate(tmp_path, capsys) -> Callable[..., Result]:
    """Return a function that runs the command on folders under tmp_path."""

    def call(*folders: str, out: str = "result", **options: object) -> Result:
        arguments = [str(tmp_path / folder) for folder in folders]
        for name, value in {"out": tmp_path / out, **options}.items():
            for one in value if isinstance(value, list) else [value]:
                arguments += [f"--{name}", str(one)]
        capsys.readouterr()
        code = users.main(["evaluate", *arguments])
        said = capsys.readouterr()
        if code:
            assert said.err.startswith("error: ") or "\nerror: " in said.err
            return Result(code, said.out, said.err, {}, {})
        with (tmp_path / out / "metrics.csv").open(newline="") as file:
            read = list(csv.DictReader(file))
        rows = {
            (row["case"], row["class"]): {k: float(v) for k, v in row.items() if k not in ("case", "class")}
            for row in read
        }
        return Result(code, said.out, said.err, rows, json.loads((tmp_path / out / "metrics.json").read_text()))

    return call
