"""The pages of docstrings: every command with every argument, every public name, and nothing that is out of date."""

from __future__ import annotations

import inspect
import re
from importlib import import_module

import pytest

from custom_networks.__main__ import COMMANDS
from custom_networks.command_line import load
from tools.__main__ import main
from tools.reference import pages as module
from tools.reference.python_pages import section


def sections(name: str) -> dict[str, str]:
    """Return the text of a page under each of its headings."""
    return dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", module.PAGES[name](), re.MULTILINE | re.DOTALL))


SECTIONS = sections("commands.md")


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


@pytest.mark.parametrize(
    ("name", "home"),
    [("networks.md", "nets"), ("blocks.md", "blocks"), ("workflow.md", "workflow")],
)
def test_every_public_name_has_a_section(name, home):
    found = sections(name)
    public = import_module(f"custom_networks.{home}").__all__
    assert list(found) == [*public, *(["plug"] if home == "nets" else [])]
    assert all(text.startswith("\n`custom_networks.") for text in found.values())


def example(first: int, *rest: int | str, scale: float = 8 / 3) -> None:
    """Do nothing, as :func:`~math.fsum` does not.

    .. math:: x = 1

    One of two:

    1. this, which is
       long;
    2. that.

    Differs from the paper: none.

    Args:
        first: a | b.
        *rest: more.
        scale: third.

    Raises:
        ValueError: if it is Monday.
        TypeError: if it is not.

    Example:
        >>> example(1)

    Cost:
        None.
    """


def test_a_section_has_all_that_is_said():
    assert section(example).splitlines() == [
        "## example",
        "",
        f"`{__name__}.example`",
        "",
        "Do nothing, as `fsum` does not.",
        "",
        "```math",
        "x = 1",
        "```",
        "",
        "One of two:",
        "",
        "1. this, which is long;",
        "2. that.",
        "",
        "**Differs from the paper.** None.",
        "",
        "| argument | default | meaning |",
        "|---|---|---|",
        "| `first` |  | a \\| b. |",
        "| `*rest` |  | more. |",
        "| `scale` | `2.667` | third. |",
        "",
        "**Raises.** `ValueError` if it is Monday. `TypeError` if it is not.",
        "",
        "```python",
        ">>> example(1)",
        "```",
        "",
        "**Cost.** None.",
    ]


@pytest.mark.parametrize("name", module.PAGES)
def test_nothing_of_the_docstrings_is_left_as_it_was(name):
    assert not re.findall(r"^\.\. |^:+$|:\w+:`", module.PAGES[name](), re.MULTILINE)


def test_pages_are_written_and_checked(tmp_path, monkeypatch, capsys):
    assert main(["pages", "--check"]) == 0
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    assert main(["pages", "--check"]) == 1
    expected = "error: commands.md, networks.md, blocks.md, workflow.md stale; run: python -m tools pages\n"
    assert capsys.readouterr().err == expected
    assert main(["pages"]) == 0
    (tmp_path / "blocks.md").write_text("# Blocks\n")
    assert main(["pages", "--check"]) == 1
    assert capsys.readouterr().err.startswith("error: blocks.md stale")
    assert main(["pages"]) == 0
    assert main(["pages", "--check"]) == 0
