"""The commands of users and maintainers: each is importable, says its usage, and ends in one sentence."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
import tempfile

import pytest

from custom_networks import __main__ as users
from custom_networks import command_line
from tests.processes import environment
from tests.synthetic import ROOT
from tools import __main__ as maintainers

TARGETS = [
    target
    for commands in (users.COMMANDS, maintainers.COMMANDS)
    for entry in commands.values()
    for target in ([entry] if isinstance(entry, str) else entry.values())
]


@pytest.mark.parametrize("target", TARGETS)
def test_every_command_can_be_imported(target):
    assert callable(command_line.load(target))


@pytest.mark.parametrize("target", TARGETS)
def test_every_command_explains_every_argument(target):
    said = command_line.help_of("program", target)
    call, _, text = said.partition("\n\n")
    function = command_line.load(target)
    for name, parameter in inspect.signature(function).parameters.items():
        word = f"--{name}" if parameter.kind is not parameter.VAR_POSITIONAL else name.upper()
        assert word in call or name.upper() in call
        optional = re.search(rf"\[--{name}[]\s]|\[{name.upper()}[]\s]", call) is not None
        assert optional is (parameter.default is not parameter.empty or parameter.kind is parameter.VAR_POSITIONAL)
        assert re.search(rf"^ +{name}: ", text, re.MULTILINE), f"{target} does not explain {name}"


def test_help_names_what_is_needed_and_what_may_be_left_out(capsys):
    assert users.main(["check", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: custom_networks check DATASET_DIR [--profile PROFILE] [--images")
    assert users.main(["adapt", "x", "-h"]) == 0
    assert "usage: custom_networks adapt [DATASET_DIR] --out OUT [--bundle BUNDLE]" in capsys.readouterr().out
    assert maintainers.main(["bundles", "render", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: python -m tools bundles render [--check]\n")
    assert maintainers.main(["bench", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: python -m tools bench [NETWORKS ...] [--shape SHAPE]")


@pytest.mark.parametrize("module", [users, maintainers], ids=["users", "maintainers"])
def test_usage_and_unknown_commands(module, capsys):
    assert module.main([]) == module.main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"  {name}" in said for name in module.COMMANDS)
    assert module.main(["nothing"]) == 2
    assert "error: unknown command 'nothing'" in capsys.readouterr().err


def test_an_unknown_argument_is_refused_before_anything_runs(capsys, tmp_path):
    assert users.main(["check", str(tmp_path), "--profil", "mine.json"]) == 1
    error = capsys.readouterr().err
    assert error == "error: check does not know --profil; it takes --dataset_dir, --profile, --images, --labels\n"
    assert users.main(["check", str(tmp_path), "mine.json"]) == 1
    assert "check does not know mine.json" in capsys.readouterr().err
    assert users.main(["list", "--jsn"]) == 1
    assert capsys.readouterr().err == "error: list does not know --jsn; it takes --json\n"
    assert users.main(["info", "cbam", "eca"]) == 1
    assert "info does not know eca" in capsys.readouterr().err
    assert maintainers.main(["bundles", "render", "x", "y"]) == 1
    assert "bundles render does not know y" in capsys.readouterr().err


def test_what_is_missing_is_asked_for(capsys):
    assert users.main(["check"]) == 1
    assert capsys.readouterr().err == "error: check needs dataset_dir; see check --help\n"
    assert users.main(["adapt", "data"]) == 1
    assert "adapt needs --out" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["false", "0", "no"])
def test_a_switch_takes_no_value(capsys, value):
    assert users.main(["list", f"--json={value}"]) == 1
    assert "--json is a switch, got " in capsys.readouterr().err
    assert users.main(["info", "cbam", "--json", value]) == 1
    assert "alone, or leave it out" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["2024_01", "007", "1e3", "None", "True", "[a]", "a,b", "0x10"])
def test_a_folder_is_a_folder_whatever_it_looks_like(capsys, monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    for other in ("202401", "7", "1000.0", "a", "16"):
        (tmp_path / other).mkdir()
    assert users.main(["check", name]) == 1
    assert f"there is no data set folder {name};" in capsys.readouterr().err
    assert users.main(["adapt", f"{name}", f"--out={name}.json", "--bundle", name]) == 1
    assert f"there is no bundle {name};" in capsys.readouterr().err


def test_a_misspelt_command(capsys):
    assert users.main(["infos", "cbam"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown command 'infos'; did you mean info?\n")


def fails(monkeypatch, error: BaseException, ours: bool = True) -> int:
    """Return the exit code of a command that raises an error, as this project does or as a library does."""
    names = {"__name__": "custom_networks.made_up" if ours else "library", "error": error}
    exec("def call() -> None:\n raise error", names)
    monkeypatch.setattr(command_line, "load", lambda _: names["call"])
    return users.main(["list"])


def test_what_a_command_raises_is_one_sentence(monkeypatch, capsys):
    assert fails(monkeypatch, ValueError("two\nlines")) == 1
    assert fails(monkeypatch, OSError("disk full")) == 1
    assert fails(monkeypatch, PermissionError(13, "Permission denied", "out.json"), ours=False) == 1
    assert fails(monkeypatch, ModuleNotFoundError("No module named 'onnx'", name="onnx.helper")) == 1
    assert fails(monkeypatch, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err.splitlines() == [
        "error: two lines",
        "error: disk full",
        "error: out.json: permission denied; correct the path or its permissions",
        "error: this command needs onnx; pip install onnx onnxruntime onnxscript",
        "interrupted",
    ]


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("not ours"), RuntimeError("of a\nlibrary")], ids=repr)
def test_what_nobody_foresaw_keeps_its_traceback_in_a_file(monkeypatch, capsys, tmp_path, error):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert fails(monkeypatch, error, ours=False) == 1
    (log,) = tmp_path.iterdir()
    said = f"error: {type(error).__name__}: {' '.join(str(error).split())}; the whole traceback is in {log}\n"
    assert capsys.readouterr().err == said
    text = log.read_text()
    assert text.splitlines()[0] == shlex.join(sys.orig_argv)
    assert "Traceback (most recent call last):" in text
    assert ", in call\n" in text


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)


ABSENT = {
    "check": ["check", "absent"],
    "adapt": ["adapt", "absent", "--out", "mine.json", "--bundle", "hippocampus_mr_attention_unet_segmentation"],
    "profile": ["check", "docs", "--profile", "absent.json"],
}


@pytest.mark.parametrize("case", ABSENT)
def test_a_wrong_path_is_noticed_without_torch(case):
    script = "import sys; from custom_networks.__main__ import main; code = main(sys.argv[1:]); "
    script += "print('heavy:', sorted({'torch', 'monai', 'numpy'} & set(sys.modules))); sys.exit(code)"
    done = python("-c", script, *ABSENT[case])
    assert done.returncode == 1
    assert re.match(r"error: there is no (data set folder|file) absent", done.stderr)
    assert done.stdout.splitlines()[-1] == "heavy: []"


@pytest.mark.parametrize("arguments", [["list"], ["info"], ["info", "cbam"], ["check", "--help"], ["--help"]], ids=str)
def test_what_only_says_something_needs_no_torch(arguments):
    """Nothing heavier than the standard library and fire is imported, so that the answer comes at once."""
    script = "import sys; from custom_networks.__main__ import main; code = main(sys.argv[1:]); "
    script += "print('heavy:', sorted({'torch', 'monai', 'numpy'} & set(sys.modules))); sys.exit(code)"
    done = python("-c", script, *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy: []"


def shell(line: str) -> subprocess.CompletedProcess[str]:
    command = f"set -o pipefail; {sys.executable} -m custom_networks {line}"
    variables = environment(PYTHONUNBUFFERED="")  # the outputs of a user are buffered
    return subprocess.run(["bash", "-c", command], cwd=ROOT, env=variables, capture_output=True, text=True, check=False)


def test_a_reader_that_stops_is_no_error():
    done = shell("list | head -n 1")
    assert (done.stdout, done.stderr) == ("bundles\n", "")


@pytest.mark.parametrize(
    ("line", "code", "error"),
    [
        ("list >&-", 0, ""),
        ("list 2>&- >&-", 0, ""),
        ("list >/dev/full", 1, "error: no space left on device; free some, or write to another place\n"),
        ("check nowhere >&-", 1, "error: there is no data set folder nowhere; give the folder that holds the images\n"),
        ("check nowhere 2>&-", 1, ""),
        ("check nowhere 2>/dev/full", 1, ""),
    ],
)
def test_an_output_that_is_closed_or_full_gives_no_traceback(line, code, error):
    done = shell(line)
    assert (done.returncode, done.stderr) == (code, error)


def test_an_argument_is_given_once_unless_a_command_wants_several(tmp_path, capsys):
    assert users.main(["adapt", "data", "--out", "a.json", "--out=b.json"]) == 1
    assert capsys.readouterr().err == "error: --out is given twice, as a.json and as b.json; leave one out\n"


def test_a_switch_does_not_swallow_the_argument_behind_it(capsys):
    assert users.main(["info", "--json", "cbam"]) == 0
    assert capsys.readouterr().out.startswith("{")


@pytest.mark.parametrize("command", [["attention_map", "image.nii"], ["predict", "image.nii", "--out", "result"]])
def test_a_value_that_is_missing_is_asked_for(command, capsys):
    assert users.main([*command, "--bundle"]) == 1
    assert capsys.readouterr().err == f"error: --bundle needs a value; {command[0]} --help says which\n"
