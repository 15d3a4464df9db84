"""The reference page of the users' commands, from the same docstrings as their ``--help``."""

from __future__ import annotations

import inspect

from custom_networks.__main__ import COMMANDS
from custom_networks.command_line import help_of, load
from tools.reference.docstrings import arguments, prose, split

PROGRAM = "custom_networks"
INTRODUCTION = f"""\
# Commands

`{PROGRAM} COMMAND --help` prints the same. Where nothing is installed, in the folder of an unpacked bundle, it is
`python -m {PROGRAM} COMMAND`. An error is one sentence on the last line, and an exit code other than 0.
"""


def page() -> str:
    """Return the page."""
    return "\n".join([INTRODUCTION, *(_section(name, str(target)) for name, target in COMMANDS.items())])


def _section(name: str, target: str) -> str:
    function = load(target)
    parts = split(function)
    usage = help_of(f"{PROGRAM} {name}", target).partition("\n\n")[0].removeprefix("usage: ")
    lines = [f"## {name}", "", parts["summary"], "", "```text", usage, "```", ""]
    if parts["text"]:
        lines += [parts["text"], ""]
    described = arguments(parts.get("Args", ""))
    if described:
        lines += ["| argument | default | what it is |", "|---|---|---|"]
        lines += [_row(own, described[own.name], first=n == 0) for n, own in enumerate(_parameters(function))]
        lines.append("")
    if "Example" in parts:
        lines += [f"For example: {prose(parts['Example'])}", ""]
    return "\n".join(lines)


def _parameters(function: object) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())  # type: ignore[arg-type]


def _row(parameter: inspect.Parameter, text: str, first: bool) -> str:
    default, by_place = parameter.default, parameter.kind is not inspect.Parameter.KEYWORD_ONLY
    given = default is inspect.Parameter.empty or (first and default is not False)
    named = not (by_place and given)
    # a flag, a list and what may be left out have nothing worth to be said
    usual = "" if default is inspect.Parameter.empty or not default else f"`{default}`"
    return f"| `{f'--{parameter.name}' if named else parameter.name.upper()}` | {usual} | {text} |"
