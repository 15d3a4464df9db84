from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose, Lambda

from custom_networks.workflow import inference_data_list, load_weights, report_errors
from custom_networks.workflow.guard import errors, interrupts
from custom_networks.workflow.guard.errors import sentence_of

ROOT = Path(__file__).resolve().parents[3]


def caught(function) -> Exception:
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("no error")


def refuse(*_):
    inference_data_list("/nowhere")


SENTENCE = "there is no file or folder /nowhere; set dataset_dir to an image or a folder of images"


def wrapped_twice():
    try:
        try:
            refuse()
        except FileNotFoundError as error:
            raise RuntimeError("first") from error
    except RuntimeError:
        raise KeyError("second")  # noqa: B904 - the context alone must do


def hidden():
    try:
        refuse()
    except FileNotFoundError:
        raise RuntimeError("another matter") from None


def config():
    parser = ConfigParser(
        {"data": {"_target_": "custom_networks.workflow.inference_data_list", "dataset_dir": "/nowhere"}}
    )
    parser.get_parsed_content("data")


@pytest.mark.parametrize("function", [refuse, wrapped_twice, config, lambda: Compose([Lambda(refuse)])(0)])
def test_the_sentence_is_found_through_every_wrapper(function):
    assert sentence_of(caught(function)) == SENTENCE


def test_monai_does_wrap():
    assert isinstance(caught(config), RuntimeError)


@pytest.mark.parametrize(
    "function", [hidden, lambda: int("x"), lambda: Path("/nowhere").read_text(), lambda: load_weights(None, None)]
)
def test_other_errors_have_no_sentence(function):
    assert sentence_of(caught(function)) is None


def test_of_two_sentences_the_innermost_counts():
    names = {"__name__": "custom_networks.made_up"}
    exec(
        "def two():\n try:\n  raise ValueError('the cause')\n except ValueError as e: raise ValueError('outer') from e",
        names,
    )
    assert sentence_of(caught(names["two"])) == "the cause"


def test_an_error_that_was_never_raised_has_no_sentence():
    assert sentence_of(ValueError("made by hand")) is None


@pytest.fixture
def hook(monkeypatch):
    """Restore the hook of this process afterwards."""
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)


@pytest.mark.usefixtures("hook")
@pytest.mark.parametrize("spec", [None, SimpleNamespace(name="pytest.__main__")])
def test_nothing_happens_outside_the_bundle_command(monkeypatch, spec):
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec)
    report_errors()
    assert sys.excepthook is sys.__excepthook__


@pytest.fixture
def on_the_command_line(monkeypatch, tmp_path):
    """Let this process pass for ``python -m monai.bundle``, with a folder of its own for temporary files."""
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", SimpleNamespace(name="monai.bundle.__main__"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(interrupts, "PROGRESS", interrupts.Progress())
    monkeypatch.setattr(errors, "PROGRESS", interrupts.PROGRESS)
    before = signal.getsignal(signal.SIGTERM)
    report_errors()
    yield
    signal.signal(signal.SIGTERM, before)


def said(error: BaseException, capsys) -> str:
    sys.excepthook(type(error), error, error.__traceback__)
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.usefixtures("hook", "on_the_command_line")
def test_the_hook_prints_the_sentence(capsys):
    assert said(caught(config), capsys) == f"error: {SENTENCE}"


@pytest.mark.usefixtures("hook", "on_the_command_line")
def test_the_traceback_of_an_error_that_nobody_foresaw_goes_to_a_file(capsys, tmp_path):
    first = said(caught(lambda: int("x")), capsys)
    reason = "ValueError: invalid literal for int() with base 10: 'x'"
    start = f"error: the run failed ({reason}); the whole traceback is in "
    assert first.startswith(f"{start}{tmp_path}/temporary/error_20")
    log = Path(first.removeprefix(start))
    assert "Traceback (most recent call last):" in log.read_text()
    assert log.read_text().splitlines()[-1] == reason
    errors.PROGRESS.begin(tmp_path / "results" / "new")
    second = said(caught(lambda: int("x")), capsys)
    assert second.startswith(f"{start}{tmp_path}/results/new/error_20")
    assert said(caught(lambda: int("x")), capsys) != second
    assert len(list((tmp_path / "results" / "new").iterdir())) == 2
    (tmp_path / "file").write_text("")
    errors.PROGRESS.begin(tmp_path / "file")
    assert said(caught(lambda: int("x")), capsys).startswith(f"{start}{tmp_path}/temporary/error_20")


@pytest.mark.usefixtures("hook", "on_the_command_line")
def test_the_part_of_the_config_and_its_knobs_are_named(capsys):
    parts = {
        "axes": 0,
        "names": ["a", "b"],
        "flips": "$[a for a in @axes]",
        "layer": {"_target_": "torch.nn.Linear", "in_features": "@axes", "out_features": "@names"},
        "run": ["$print(@flips)", {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": "@names"}],
    }

    def failing(name):
        return said(caught(lambda: ConfigParser(parts).get_parsed_content(name)), capsys)

    assert failing("flips").startswith("error: flips failed with axes 0 (TypeError: 'int' object is not iterable); ")
    assert failing("layer").startswith("error: layer failed with axes 0, names ['a', 'b'] (TypeError: ")
    assert failing("run#0").startswith("error: flips failed with axes 0 (TypeError: ")
    assert failing("run#1").startswith("error: Linear failed with names ['a', 'b'] (TypeError: ")


@pytest.mark.usefixtures("hook", "on_the_command_line")
@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (PermissionError(13, "Permission denied", "/out/a"), "/out/a: permission denied; correct the path or its perm"),
        (OSError(28, "No space left on device"), "no space left on device; free some, or write to another place"),
        (KeyError("LOCAL_RANK"), "the multi_gpu configs are for several processes; start them with torchrun --nproc"),
    ],
)
def test_what_the_system_says_needs_no_file(capsys, tmp_path, error, sentence):
    def wrapped():
        raise RuntimeError("of MONAI") from error

    assert said(caught(wrapped), capsys).startswith(f"error: {sentence}")
    assert not list(tmp_path.iterdir())


class Refusing(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, number):
        if number == 0:
            names = {"__name__": "custom_networks.made_up"}
            path = str(ROOT / "custom_networks" / "made_up.py")
            exec(compile("def refuse():\n raise ValueError('scan.nii is broken')", path, "exec"), names)
            try:
                names["refuse"]()
            except ValueError as cause:
                raise RuntimeError("applying a transform") from cause
        raise IndexError("of a library")


@pytest.mark.usefixtures("hook", "on_the_command_line")
def test_errors_of_the_processes_that_load_data(capsys):
    def load(start):
        return lambda: next(iter(torch.utils.data.DataLoader(Refusing(), sampler=[start], num_workers=1)))

    assert said(caught(load(0)), capsys) == "error: scan.nii is broken"
    assert said(caught(load(1)), capsys).startswith("error: the run failed (IndexError: IndexError: of a library); ")


def test_what_another_package_raises_is_no_sentence_of_ours():
    names = {"__name__": "custom_networks.made_up"}
    exec("def read():\n return int('x')", names)
    assert sentence_of(caught(names["read"])) is None


def test_the_command_line_ends_with_the_sentence_and_exit_code_1(tmp_path):
    (tmp_path / "infer.json").write_text(
        '{"initialize": [{"_target_": "custom_networks.workflow.report_errors"}],'
        ' "run": [{"_target_": "custom_networks.workflow.inference_data_list", "dataset_dir": "/nowhere"}]}'
    )
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(tmp_path / "infer.json")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.rstrip().endswith(f"error: {SENTENCE}")
    assert "Traceback" not in result.stderr
