"""What a user does with a bundle on another machine: download, verify, train, infer, use it from Python."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil

import pytest
import torch

from tests.download.conftest import download, last_json, packed, version
from tests.processes import flags
from tests.synthetic import (
    BUNDLES,
    CLASSIFICATION,
    IMAGES,
    SEGMENTATION,
    config,
    kind,
    of_one_per_recipe,
    patch,
    task,
    tiny_knobs,
    tiny_training,
    write_nifti,
)

pytestmark = pytest.mark.slow

LOAD = """
import json, sys
import monai.bundle, torch
name, folder, size = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
network = monai.bundle.load(name, bundle_dir=folder, source="github", repo="none/none/none", version=sys.argv[4],
                            args_file={"bundle_root": f"{folder}/{name}"}, workflow_name=None)
root = f"{folder}/{name}"
made = monai.bundle.create_workflow(config_file=f"{root}/configs/inference.json", bundle_root=root, logging_file=False,
                                    dataset_dir="absent", workflow_type="inference")
found = {"source": sys.modules["custom_networks"].__file__}
x = torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    one, other = network.eval()(x), made.network_def.eval()(x)
found |= {"shape": list(one.shape), "equal": torch.equal(one, other), "sum": float(one.sum())}
print(json.dumps(found))
"""
TWO = """
import json, sys
import monai.bundle, torch
found = {}
for root in sys.argv[1:]:
    config = f"{root}/configs/inference.json"
    made = monai.bundle.create_workflow(config_file=config, bundle_root=root, logging_file=False, dataset_dir="absent",
                                        workflow_type="inference")
    patch = made.parser.get_parsed_content("patch_size")
    with torch.no_grad():
        found[root] = list(made.network_def.eval()(torch.zeros(1, 1, *patch)).shape)
print(json.dumps(found))
"""


def test_the_environment_does_not_know_the_repository(python, tmp_path):
    assert (
        "No module named 'custom_networks'" in python("-c", "import custom_networks", cwd=tmp_path, fails=True).stderr
    )


def test_packing_twice_gives_equal_bytes(dist, tmp_path):
    again = packed(tmp_path)
    names = sorted(path.name for path in dist.iterdir())
    assert sorted(path.name for path in again.iterdir()) == names
    assert len([name for name in names if name.endswith(".zip")]) == len(BUNDLES)
    assert [name for name in names if (dist / name).read_bytes() != (again / name).read_bytes()] == []


def test_verify(bundle, downloaded, dist, site, python, tmp_path):
    """The stand-alone file of the web server: the zip by its address, then the folder against it."""
    url = f"{site}/{bundle.name}_v{version(bundle)}.zip"
    python(str(dist / "verify.py"), url, cwd=tmp_path)
    python(str(dist / "verify.py"), str(downloaded), "--against", url, cwd=tmp_path)


def test_load_and_create_workflow(bundle, downloaded, python, tmp_path):
    size = config(bundle)["patch_size"]
    script = tmp_path / "load.py"
    script.write_text(LOAD)
    arguments = [bundle.name, str(downloaded.parent), json.dumps(size), version(bundle)]
    found = last_json(python("-B", str(script), *arguments, cwd=tmp_path))
    assert found["source"] == str(downloaded / "custom_networks" / "__init__.py")
    assert found["equal"]
    grid = size if task(bundle) == "segmentation" else []
    assert found["shape"] == [1, len(config(bundle)["label_names"]), *grid]
    assert found["sum"] != 0


@of_one_per_recipe
def test_the_first_commands_of_the_page(bundle, downloaded, python, tmp_path):
    """The environment has what the first of them installs; the image is as large as the shipped network needs."""
    page = (downloaded / "README.md").read_text()
    install, use = page.partition("```bash\n")[2].partition("```")[0].splitlines()
    assert install == "pip install -r requirements.txt"
    assert (downloaded / "requirements.txt").is_file()
    pixels = patch(0, shape=config(bundle)["patch_size"])
    image, out = write_nifti(pixels, tmp_path / "case_00.nii.gz"), tmp_path / "out"
    for name, path in (("<image or folder>", image), ("<image>", image), ("<folder>", out)):
        use = use.replace(name, str(path))
    python(*use.split()[1:], cwd=downloaded)
    assert kind(bundle).results[0] in [path.name for path in out.iterdir()]


@of_one_per_recipe
def test_train_and_infer(bundle, downloaded, dataset, python, tmp_path):
    weights = hashlib.sha256((downloaded / "models" / "model.pt").read_bytes()).digest()
    files = {name: str(downloaded / "configs" / f"{name}.json") for name in ("train", "inference")}
    root = ["--bundle_root", str(downloaded)]
    overrides = {**tiny_training(bundle, dataset, tmp_path / "out"), "epochs": 1}
    python("-m", "monai.bundle", "run", "--config_file", files["train"], *root, *flags(overrides), cwd=tmp_path)
    assert torch.load(tmp_path / "out" / "model.pt", weights_only=True)
    image = sorted((dataset / IMAGES).iterdir())[0]
    knobs = {"dataset_dir": str(image), "output_dir": str(tmp_path / "results"), "ckpt_dir": str(tmp_path / "out")}
    overrides = {**tiny_knobs(bundle), **knobs}
    python("-m", "monai.bundle", "run", "--config_file", files["inference"], *root, *flags(overrides), cwd=tmp_path)
    assert [path.name for path in (tmp_path / "results").iterdir()] == kind(bundle).results[:1]
    assert hashlib.sha256((downloaded / "models" / "model.pt").read_bytes()).digest() == weights


def test_two_bundles_in_one_process(site, python, downloads, tmp_path):
    pair = [download(bundle, site, python, downloads) for bundle in (SEGMENTATION[0], CLASSIFICATION[0])]
    script = tmp_path / "two.py"
    script.write_text(TWO)
    found = last_json(python("-B", str(script), *map(str, pair), cwd=tmp_path))
    assert [len(shape) for shape in found.values()] == [5, 2]


@of_one_per_recipe
def test_a_downloaded_bundle_adapts_itself(bundle, downloaded, dataset, python, tmp_path):
    """The commands run from the bundle's folder, with nothing installed but the requirements."""
    run = functools.partial(python, "-m", "custom_networks", cwd=downloaded)
    assert json.loads(run("info", bundle.name, "--json").stdout)["folder"] == str(downloaded)
    found = json.loads(run("list", "--json").stdout)
    assert [entry["name"] for entry in found["bundles"]] == [bundle.name]
    if task(bundle) == "segmentation":
        assert "ready" in run("check", str(dataset)).stdout
    profile = tmp_path / "mine.json"
    run("adapt", str(dataset), "--out", str(profile))
    assert profile.is_file()
    trained_and_used(functools.partial(python, cwd=tmp_path), downloaded, profile, dataset, tmp_path)
    if task(bundle) == "segmentation":
        predicted = tmp_path / "predicted"
        run("predict", str(dataset / IMAGES), "--profile", str(profile), "--out", str(predicted))
        check_predicted(predicted, tmp_path / "results")


def check_predicted(predicted, results) -> None:
    """Compare the masks of predict with those of inference.json."""
    masks = sorted(path.name for path in results.iterdir())
    assert sorted(path.name for path in predicted.glob("*_seg.nii.gz")) == masks
    for name in masks:
        assert (predicted / name).read_bytes() == (results / name).read_bytes()
    document = json.loads((predicted / "volumes.json").read_text())
    assert len(document["images"]) == len(masks)


def trained_and_used(python, folder, profile, dataset, tmp_path) -> None:
    """Train one epoch by an adapted profile and use the weights."""
    run = ["-m", "monai.bundle", "run", "--bundle_root", str(folder), "--args_file", str(profile)]
    python(*run, "--config_file", str(folder / "configs" / "train.json"), "--epochs", "1")
    inference = ["--config_file", str(folder / "configs" / "inference.json"), "--output_dir", str(tmp_path / "results")]
    python(*run, *inference, "--dataset_dir", str(dataset / IMAGES))
    assert list((tmp_path / "results").iterdir())


def test_the_wheel_alone_has_the_commands_of_users(installed, dataset_of_segmentation, dist, tmp_path):
    """A bundle's configs and weights without the package in it, and an empty working directory."""
    bundle = SEGMENTATION[0]
    folder = tmp_path / bundle.name
    for part in ("configs", "models"):
        shutil.copytree(bundle / part, folder / part)
    (tmp_path / "empty").mkdir()
    assert installed("custom_networks", "list", cwd=tmp_path / "empty").startswith("bundles: none here; name one by")
    assert "torch" in json.loads(installed("custom_networks", "info", "--json", cwd=tmp_path))
    assert "ready" in installed("custom_networks", "check", str(dataset_of_segmentation), cwd=tmp_path)
    profile = tmp_path / "mine.json"
    adapt = ["adapt", str(dataset_of_segmentation), "--out", str(profile)]
    installed("custom_networks", *adapt, "--bundle", str(folder), cwd=tmp_path)
    trained_and_used(
        functools.partial(installed, "python", cwd=tmp_path), folder, profile, dataset_of_segmentation, tmp_path
    )
    predict = ["predict", str(dataset_of_segmentation / IMAGES), "--profile", str(profile), "--bundle", str(folder)]
    installed("custom_networks", *predict, "--out", str(tmp_path / "predicted"), cwd=tmp_path)
    check_predicted(tmp_path / "predicted", tmp_path / "results")
    (packed_file,) = dist.glob(f"{bundle.name}_v*.zip")
    shutil.copy(packed_file, tmp_path / "empty")
    installed("custom_networks", *adapt, "--bundle", packed_file.name, cwd=tmp_path / "empty")
    assert (tmp_path / "empty" / bundle.name / "models" / "model.pt").is_file()
