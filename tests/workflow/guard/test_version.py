"""A bundle refuses an older package than it was packed with, before anything else runs."""

from __future__ import annotations

import pytest

import custom_networks
from custom_networks.workflow import require_version
from custom_networks.workflow.guard.errors import sentence_of
from tests.processes import isolated
from tests.synthetic import BUNDLES, config, workflow

NEWER = "code_path#1#minimum"
SENTENCE = (
    f"this bundle needs custom_networks 99.0.0 or newer, but {custom_networks.__version__} was imported from "
    f"{custom_networks.__path__[0]}; update that package, or use this bundle in a process of its own if another one "
    "brought it"
)


def test_the_own_version_and_older_ones_will_do():
    require_version(custom_networks.__version__)
    require_version("0.0.9")


def test_versions_are_compared_as_numbers(monkeypatch):
    monkeypatch.setattr(custom_networks, "__version__", "0.10.0")
    require_version("0.9.1")
    with pytest.raises(ValueError, match=r"needs custom_networks 0\.11\.0 or newer, but 0\.10\.0 was imported"):
        require_version("0.11.0")


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
@pytest.mark.parametrize("name", ["train", "inference"])
def test_bundles_ask_for_the_version_that_they_were_rendered_with(bundle, name):
    assert config(bundle, name)["code_path"][1]["minimum"] == custom_networks.__version__


@pytest.mark.parametrize("name", ["train", "inference"])
def test_no_network_is_made_with_an_older_package(name, tmp_path):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - MONAI wraps the error; its sentence is checked
        workflow(BUNDLES[0], name, "infer", {NEWER: "99.0.0", "dataset_dir": str(tmp_path)})
    assert sentence_of(caught.value) == SENTENCE


def test_the_command_line_ends_with_one_sentence(tmp_path):
    files = [str(BUNDLES[0] / "configs" / "inference.json"), "--bundle_root", str(BUNDLES[0]), f"--{NEWER}", "99.0.0"]
    done = isolated("-m", "monai.bundle", "run", "--config_file", *files, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"error: {SENTENCE}"


@pytest.mark.slow
def test_an_export_without_a_gpu_ends_with_one_sentence(tmp_path):
    """No config of ours runs in it but the one of the network."""
    bundle = BUNDLES[0]
    files = ["--ckpt_file", str(bundle / "models" / "model.pt"), "--filepath", str(tmp_path / "model.ts")]
    files += ["--meta_file", str(bundle / "configs" / "metadata.json"), "--bundle_root", str(bundle)]
    files += ["--config_file", str(bundle / "configs" / "inference.json")]
    done = isolated("-m", "monai.bundle", "trt_export", "network_def", *files, cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: trt_export needs an NVIDIA GPU, and torch finds none here;")
