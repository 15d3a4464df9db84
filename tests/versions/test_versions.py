"""A training and an inference with what is installed; make runs it with the oldest and with the newest versions."""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import version

import pytest
from packaging.requirements import Requirement

from tests.processes import flags, isolated
from tests.synthetic import IMAGES, ROOT, SEGMENTATION, kind, tiny_training, write_dataset

pytestmark = pytest.mark.slow

BUNDLE = next(bundle for bundle in SEGMENTATION if "attention_unet" in bundle.name)


def run(*arguments, cwd):
    done = isolated("-m", *arguments, cwd=cwd)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def _versions():
    """Check what is installed, and print it for the log."""
    needs = [
        Requirement(text) for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    ]
    found = {need.name: version(need.name) for need in needs}
    print(f"\nPython {sys.version.split()[0]}, " + ", ".join(f"{name} {number}" for name, number in found.items()))
    wrong = [str(need) for need in needs if not need.specifier.contains(found[need.name], prereleases=True)]
    assert wrong == [], "the versions installed are not those that pyproject.toml allows"


def test_one_epoch_and_inference(tmp_path):
    """Mixed precision and device are left as they come."""
    data, out, masks = write_dataset(tmp_path / "data", cases=5), tmp_path / "out", tmp_path / "masks"
    tiny = tiny_training(BUNDLE, data, out, epochs=1)
    training = {name: value for name, value in tiny.items() if name not in ("amp", "device")}
    inference = {name: training[name] for name in ("label_names", "patch_size", "network_def#features", "ckpt_dir")}
    inference |= {"dataset_dir": data / IMAGES, "output_dir": masks}
    for name, overrides in (("train", training), ("inference", inference)):
        files = ["--config_file", str(BUNDLE / "configs" / f"{name}.json"), "--bundle_root", str(BUNDLE)]
        run("monai.bundle", "run", *files, *flags(overrides), cwd=tmp_path)
    assert len((out / "training_curve.csv").read_text().splitlines()) == 2
    assert sorted(path.name for path in masks.iterdir()) == kind(BUNDLE).results[:5]


def test_the_shipped_weights_predict(tmp_path):
    images = write_dataset(tmp_path / "data", cases=1) / IMAGES
    given = [str(images), "--bundle", str(BUNDLE), "--out", str(tmp_path / "masks")]
    assert "1 segmented" in run("custom_networks", "predict", *given, cwd=ROOT)
