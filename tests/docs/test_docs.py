"""Every command in the README, the docs and the bundles' READMEs is run as it stands, in a copy of the repository."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.synthetic import BUNDLES, IMAGES, ONE_PER_RECIPE, ROOT, config, each, task, write_patches

pytestmark = pytest.mark.slow

BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Commands that are shown but not run here, and why.
ELSEWHERE = {
    "source .venv/bin/activate": "the tests run inside the environment",
    "make": "the targets are what runs these tests; that they exist is checked",
    "python -m tools data fetch": "needs a network; tests/tools/data/test_datasets.py runs it against a local copy",
    "python -m tools data convert": "needs the file of a data set; tests/tools/data/test_medmnist.py",
    "python -m tools heads": "needs a data set; tests/tools/study/test_heads.py",
    "python -m tools forest": "needs a data set; tests/tools/study/test_forest.py",
    "python -m tools gates": "of one bundle; tests/tools/study/test_gates.py",
    "python -m tools ablate": "hours; tests/tools/study/test_ablate.py",
    "python -m tools bundles train": "half an hour; tests/tools/recipes/test_render.py",
    "python -m tools bundles describe": "needs a data set; tests/tools/study/test_describe.py",
    "python -m custom_networks adapt --plans": "needs a plans file; tests/adapt/test_plans.py",
    "python -m custom_networks compare": "minutes; tests/compare/test_compare.py",
    "python -m custom_networks cross_validate": "trains every fold; tests/studies/test_killed_driver.py",
    "python -m tools export": "minutes; tests/tools/ship/test_export.py",
    "python -m tools bench": "minutes; tests/tools/bench/test_bench.py",
    "pip install": "installs",
}
RESULTS = {"segmentation": "*_seg.nii.gz", "classification": "predictions.csv"}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands(page: Path) -> list[str]:
    """Return the commands of a page, continuation lines joined."""
    text = "\n".join(BLOCK.findall(page.read_text())).replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip()]


def skipped(command: str) -> bool:
    return any(command.startswith(start) for start in ELSEWHERE)


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """Return a copy of what git tracks or would track, with the embedded data in it."""
    folder = tmp_path_factory.mktemp("copy") / "repository"
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in names:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    run("python -m tools data embedded", folder)
    return folder


def run(command: str, folder: Path) -> None:
    binaries = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, f"{command}\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.parent.name != "bundles"], ids=lambda page: str(page.relative_to(ROOT))
)
def test_commands_of_the_docs(page, copy):
    """But for the pages of the bundles, which are their READMEs."""
    for command in commands(page):
        if command.startswith("make "):
            subprocess.run(["make", "-n", *shlex.split(command)[1:]], cwd=ROOT, check=True, capture_output=True)
        elif not skipped(command):
            run(command, copy)


def data_for(bundle: Path, copy: Path) -> Path:
    """Return a data set that the shipped configs take as they are."""
    if task(bundle) == "segmentation":
        return copy / "data" / "Embedded_Hippocampus"
    train = config(bundle)
    return write_patches(copy / "data" / "Patches", label_names=train["label_names"], shape=train["patch_size"])


@each([bundle for bundle in BUNDLES if bundle not in ONE_PER_RECIPE])
def test_bundles_of_one_recipe_have_the_same_commands(bundle):
    """So it is enough to run those of one."""
    (stand_in,) = (one for one in ONE_PER_RECIPE if task(one) == task(bundle))
    own, others = (
        [command for command in commands(one / "docs" / "README.md") if not skipped(command)]
        for one in (bundle, stand_in)
    )
    assert own == others


@each(ONE_PER_RECIPE)
def test_commands_of_the_bundles(bundle, copy, tmp_path):
    """The placeholders are filled in, and trainings stop after one epoch."""
    folder = copy / "bundles" / bundle.name
    data = data_for(bundle, copy)
    image = sorted((data / IMAGES).iterdir())[0]
    places = [("<data>", data), ("<image>", image), ("<image or folder>", image), ("<heads>", data / "heads")]
    assert (folder / "models" / "model.pt").is_file(), "the bundle ships no weights"
    ran = 0
    for command in commands(bundle / "docs" / "README.md"):
        if skipped(command):
            continue
        for name, path in [*places, ("<folder>", tmp_path)]:
            command = command.replace(name, str(path))
        if "train.json" in command and "evaluate.json" not in command:
            command += f" --epochs 1 --val_interval 1 --ckpt_dir {tmp_path / str(ran)} --output_dir {tmp_path}"
        run(command, folder)
        ran += 1
    assert ran >= 5
    assert list(tmp_path.glob(RESULTS[task(bundle)]))
    assert (folder / "models" / "model.ts").is_file()


def test_links_of_the_docs_lead_somewhere():
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", *(bundle / "docs" / "README.md" for bundle in BUNDLES)]:
        # a formula such as `k[l](C + 1)` is no link
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", re.sub(r"`[^`\n]*`", "", page.read_text())):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page} links to {target}"
