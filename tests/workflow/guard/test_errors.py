from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from monai.bundle import ConfigParser
from monai.transforms import Compose, Lambda

from custom_networks.workflow import inference_data_list, load_weights, report_errors
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


@pytest.mark.usefixtures("hook")
def test_the_hook_prints_one_line_and_leaves_other_errors_alone(monkeypatch, capsys):
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", SimpleNamespace(name="monai.bundle.__main__"))
    report_errors()
    error = caught(config)
    sys.excepthook(type(error), error, error.__traceback__)
    assert capsys.readouterr().err == f"error: {SENTENCE}\n"
    error = caught(lambda: int("x"))
    sys.excepthook(type(error), error, error.__traceback__)
    assert capsys.readouterr().err.startswith("Traceback (most recent call last):")


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
