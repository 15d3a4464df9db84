"""A guard against misspelt overrides, which MONAI takes in silence."""

from __future__ import annotations

import inspect
import json
import os
import re
import sys
from ast import literal_eval
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import monai.bundle
from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser, ConfigWorkflow

from custom_networks.workflow.guard.errors import on_the_command_line
from custom_networks.workflow.guard.knobs import RULES

FLAG = re.compile(r"-{1,2}([A-Za-z_][^=]*)(?:=(.*))?", re.DOTALL)
COMMAND_LINE, CALL = "the command line", "the call"
FILES = ("args_file", "config_file")
MONAI_READS = ("$", "@", "%")
NO_CONFIGS = ("metadata.json", "folds.json")
METADATA = "_meta_"
"""Where MONAI puts metadata.json in the config of a workflow."""
Override = tuple[str, Any, str]
"""Name, value, and where it is set."""


def check_overrides(bundle_root: str, argv: Sequence[str] | None = None) -> None:
    """End a run of a bundle whose overrides change nothing that exists, or give text for a yes or no.

    ``--epoch 1`` adds an entry ``epoch`` that nothing reads, and the run takes the epochs of the config. Looked at are
    the command line of ``python -m monai.bundle`` and the files given with it: profiles and config files that are not
    the bundle's own; of a workflow that Python or MONAI Label makes (``create_workflow``, ``load``, ``run``), the
    config with all that was merged into it. Accepted is every entry of any config of the bundle, since one profile
    serves training, evaluation and inference; the arguments of a component, whose class checks them itself; and a new
    entry that another one refers to with ``@``.
    ``--amp false`` is refused where the configs have true or false: it arrives as a text, which counts as true; so is
    ``--output_dir 2024_01``, which arrives as a number whose text is lost.

    Args:
        bundle_root: the bundle's folder.
        argv: the command line; if None, that of the process where it runs ``monai.bundle``, else the workflow that
            calls this.

    Raises:
        ValueError: if ``bundle_root`` is no bundle, on the command line, or an override changes nothing, with the
            nearest name that exists, is a text such as "false", or is to be a text and is read as something else.
    """
    if argv is None and on_the_command_line():
        argv = sys.argv[1:]
    own = Path(bundle_root).resolve() / "configs"
    if own.is_dir():
        overrides = _merged() if argv is None else _given(argv, own)
    elif argv is None:
        return
    else:
        raise ValueError(
            f"{own.parent} is not the folder of a bundle, it has no configs; give that above them as --bundle_root"
        )
    known = _known(own)
    texts = [str(value) for _, value, _ in overrides]
    for name, value, source in overrides:
        if isinstance(known.get(name), bool) and _is_text(value, source):
            raise ValueError(
                f"{source} sets {name} to the text {value!r}, which would count as true; write "
                + (value.capitalize() if source in (COMMAND_LINE, CALL) else value.lower() + " without quotation marks")
            )
        if name in RULES and RULES[name].is_text:
            _check_text(name, value, source)
        unknown = _unknown(name.replace("::", "#").split("#"), known)
        if unknown is None or any(re.search(rf"[@%]{re.escape(unknown[0])}\b", text) for text in texts):
            continue
        wrong, names = unknown
        near = get_close_matches(wrong, names, n=1, cutoff=0.6)
        raise ValueError(
            f"{source} sets {name}, but nothing in the configs of {own.parent.name} is called {wrong}; "
            + (f"did you mean {near[0]}?" if near else "see the knobs at the top of configs/train.json")
        )


def _given(argv: Sequence[str], own: Path) -> list[Override]:
    """Return what a command line and the files that it names set, but for arguments of MONAI and the bundle's files."""
    given = dict(_flags(argv))
    overrides: list[Override] = [(name, value, COMMAND_LINE) for name, value in given.items()]
    for path in [path for name in FILES for path in _paths(given.get(name, ""))]:
        if path.resolve().parent != own and path.is_file():
            content = ConfigParser.load_config_file(path)
            overrides += [(name, value, str(path)) for name, value in content.items()]
    parameters = inspect.signature(monai.bundle.run).parameters
    return [override for override in overrides if override[0] not in parameters]


def _merged() -> list[Override]:
    """Return every entry of the workflow that is being initialised, which keeps no list of its overrides."""
    frame = inspect.currentframe()
    while frame is not None:
        workflow = frame.f_locals.get("self")
        if isinstance(workflow, ConfigWorkflow):
            config = {name: value for name, value in workflow.parser.config.items() if name != METADATA}
            return [(name, value, CALL) for name, value in _entries(config)]
        frame = frame.f_back
    return []


def _entries(config: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the entries of a config by their id paths; a component and a list are one."""
    for name, value in config.items():
        if isinstance(value, Mapping) and value and "_target_" not in value:
            yield from _entries(value, f"{above}{name}#")
        else:
            yield f"{above}{name}", value


def _is_text(value: Any, source: str) -> bool:
    """Return whether a value says yes or no as a text: True and False are none on the command line."""
    return (
        isinstance(value, str)
        and value.lower() in ("true", "false")
        and (source != COMMAND_LINE or value not in ("True", "False"))
    )


def _check_text(name: str, value: Any, source: str) -> None:
    """Refuse a text that fire reads as a number, a list or with a comment, or MONAI as an id."""
    read = DefaultParseValue(value) if source == COMMAND_LINE else value
    if not isinstance(read, str):
        if isinstance(read, os.PathLike) or (read is None and RULES[name].fits(None)):
            return
        if source != COMMAND_LINE:
            raise ValueError(f"{source} sets {name} to {value!r}, which is no text; put it in quotation marks")
        way = f"./{value}" if "path" in RULES[name].expected else f"\"'{value}'\""
        raise ValueError(f"{source} sets {name} to {value}, which is read as {read!r}, not as a text; write {way}")
    text = read if value[:1] in ("'", '"') or source != COMMAND_LINE else value
    if "#" in text and not text.startswith(MONAI_READS):
        expression = "$" + repr(text).replace("#", r"\x23")
        way = f'"{expression}"' if source == COMMAND_LINE else json.dumps(expression)
        raise ValueError(f"{source} sets {name} to {text}, where # begins something else than a text; write {way}")


def _flags(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Return name and value of every ``--name value`` and ``--name=value``, the names as Python spells them."""
    for number, text in enumerate(argv):
        match = FLAG.fullmatch(text)
        if match:
            after = argv[number + 1] if number + 1 < len(argv) else ""
            yield match[1].replace("-", "_"), match[2] if match[2] is not None else after


def _paths(text: str) -> list[Path]:
    """Return the files of an argument that is one path or the text of a list of paths."""
    try:
        value = literal_eval(text)
    except (SyntaxError, ValueError):
        value = text
    return [Path(path) for path in (value if isinstance(value, list | tuple) else [text]) if path]


def _known(configs: Path) -> dict[str, Any]:
    """Return the entries of all configs, those that are given by an id path in their place."""
    known: dict[str, Any] = {}
    contents = [
        ConfigParser.load_config_file(path) for path in sorted(configs.glob("*.json")) if path.name not in NO_CONFIGS
    ]
    for content in contents:
        for name, value in content.items():
            node = known
            *parents, last = name.split("#")
            for parent in parents:
                node = node.setdefault(parent, {})
            if isinstance(value, Mapping) and isinstance(node.get(last), Mapping):
                node[last] = {**node[last], **value}
            else:
                node[last] = value
    return known


def _unknown(parts: Sequence[str], node: Any) -> tuple[str, Iterable[str]] | None:
    """Return the first part of an id path that leads nowhere, and what is there instead; ``None`` if all is well.

    A component takes what its class takes, and an item of a list or an expression is not followed.
    """
    for part in parts:
        if not isinstance(node, Mapping) or "_target_" in node:
            return None
        if part not in node:
            return part, [str(name) for name in node]
        node = node[part]
    return None
