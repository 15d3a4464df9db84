"""The page of the commands has each of them with every argument, and is what its docstrings say."""

from __future__ import annotations

import inspect
import re

import pytest

from custom_networks.__main__ import COMMANDS
from custom_networks.command_line import load
from tools.__main__ import main
from tools.reference import commands as module

SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", module.page(), re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_argument_has_a_row(name):
    rows = re.findall(r"^\| `(?:--)?(\w+)` \| (.*?) \| (.+) \|$", SECTIONS[name], re.MULTILINE)
    parameters = inspect.signature(load(COMMANDS[name])).parameters
    assert [row[0].lower() for row in rows] == list(parameters)
    for (_, usual, _), parameter in zip(rows, parameters.values(), strict=True):
        assert usual == "" or usual == f"`{parameter.default}`"
    assert f"\ncustom_networks {name}" in SECTIONS[name]


def test_arguments_are_called_as_they_are_given():
    assert "| `DATASET_DIR` |  |" in SECTIONS["check"]
    assert "| `INPUTS` |  |" in SECTIONS["predict"]
    assert "| `--out` |  |" in SECTIONS["predict"]
    assert "| `--device` | `auto` |" in SECTIONS["adapt"]
    assert "| `--json` |  |" in SECTIONS["list"]


def test_the_page_is_written_and_checked(tmp_path, monkeypatch, capsys):
    assert main(["commands", "--check"]) == 0
    monkeypatch.setattr(module, "PAGE", tmp_path / "commands.md")
    assert main(["commands", "--check"]) == 1
    assert capsys.readouterr().err == "error: commands.md is stale; run: python -m tools commands\n"
    assert main(["commands"]) == 0
    assert main(["commands", "--check"]) == 0
