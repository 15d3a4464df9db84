"""The files that say how the repository is cited, checked and written to."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from custom_networks import __version__, attention
from tools.recipes.metadata import OF_HEADS, VERSIONS

ROOT = Path(__file__).resolve().parents[1]
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
ISSUES = [path for path in FORMS if path.name != "config.yml"]
MAPS = [ROOT / "CONTRIBUTING.md", ROOT / "docs" / "concepts" / "architecture.md"]
# what a page calls a file or folder of the repository, but not a pattern with a name to fill in
PLACE = re.compile(r"`((?:custom_networks|docs|tests|tools)/[\w./*]*)`")
PROMISES = ["README.md", "CONTRIBUTING.md", "docs/get-started.md"]
PROMISES += [f"tools/recipes/{recipe}/readme.md" for recipe in ("segmentation", "classification")]
FILES = [ROOT / "CITATION.cff", ROOT / ".pre-commit-config.yaml", WORKFLOW, *FORMS]


def read(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def jobs() -> dict[str, dict]:
    return read(WORKFLOW)["jobs"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_is_yaml(path):
    assert isinstance(read(path), dict)


def test_citation_is_that_of_the_package():
    citation, project = read(ROOT / "CITATION.cff"), (ROOT / "pyproject.toml").read_text()
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == __version__
    assert f'license = "{citation["license"]}"' in project
    assert citation["authors"] == [{"name": "The custom_networks authors"}]
    assert {"message", "title"} <= citation.keys()


def test_ci_runs_what_a_contributor_runs():
    assert [step["run"] for step in jobs()["everything"]["steps"] if "run" in step] == [".ci/run"]


def pythons(matrix: dict) -> list[str]:
    return matrix.get("python-version") or [entry["python-version"] for entry in matrix["include"]]


def test_python_is_of_one_version_everywhere():
    """What the package takes is what make takes, ruff writes for, CI begins with and the pages promise."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    oldest = project["project"]["requires-python"].removeprefix(">=")
    made = re.search(r"sys\.version_info < \((\d+), (\d+)\)", (ROOT / "Makefile").read_text())
    assert ".".join(made.groups()) == oldest
    assert project["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    for job in jobs().values():
        found = sorted(pythons(job["strategy"]["matrix"]), key=Version)
        assert found[0] == oldest
        for page in PROMISES:
            assert f"Python {found[0]} to {found[-1]}" in (ROOT / page).read_text()


def test_ci_runs_the_oldest_and_the_newest_versions():
    job = jobs()["versions"]
    assert job["steps"][-1]["run"] == "make test-${{ matrix.set }} PYTHON=python"
    for name in job["strategy"]["matrix"]["set"]:
        assert re.search(rf"^test-versions:.* test-{name}\b", (ROOT / "Makefile").read_text(), re.MULTILINE)


def pins(name: str) -> dict[str, Version]:
    lines = [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
    return {canonicalize_name(line.partition("==")[0]): Version(line.partition("==")[2]) for line in lines}


def test_the_oldest_versions_are_the_least_of_the_ranges():
    needs = [
        Requirement(text) for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    ]
    least = {need.name: [Version(s.version) for s in need.specifier if s.operator == ">="] for need in needs}
    assert {name: [number] for name, number in pins("constraints-oldest.txt").items()} == least
    newer = pins("constraints.txt")
    assert [need.name for need in needs if not need.specifier.contains(newer[canonicalize_name(need.name)])] == []


def test_the_versions_that_bundles_were_made_with_are_those_of_the_constraints():
    named = {
        **{
            name: VERSIONS[f"{key}_version"]
            for name, key in (("monai", "monai"), ("torch", "pytorch"), ("numpy", "numpy"))
        },
        **VERSIONS["required_packages_version"],
        **{canonicalize_name(name): number for name, number in OF_HEADS.items()},
    }
    pinned = pins("constraints.txt")
    assert {name: Version(number) for name, number in named.items()} == {name: pinned[name] for name in named}


def test_hooks_call_what_make_lint_calls():
    recipe = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    lines = [line.split() for line in recipe.split("\n\t$(BIN)/")[1:]]
    for hook in read(ROOT / ".pre-commit-config.yaml")["repos"][0]["hooks"]:
        words = hook["entry"].removeprefix(".venv/bin/").removesuffix(" --force-exclude").split()
        # one that gets the names of files differs from make in what follows
        end = len(words) if hook.get("pass_filenames", True) else None
        assert words in [line[:end] for line in lines], hook["entry"]


@pytest.mark.parametrize("path", ISSUES, ids=lambda path: path.name)
def test_form_is_one_that_github_takes(path):
    form = read(path)
    assert {"name", "description", "body"} <= form.keys()
    questions = [part for part in form["body"] if part["type"] != "markdown"]
    assert len({question["id"] for question in questions}) == len(questions)
    assert all(question["attributes"]["label"] for question in questions)


def test_a_report_of_a_bug_holds_the_versions():
    questions = read(ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml")["body"]
    asked = [question for question in questions if "custom_networks info --json" in str(question)]
    assert [question["validations"]["required"] for question in asked] == [True]


@pytest.mark.parametrize("page", MAPS, ids=lambda page: page.name)
def test_places_that_a_page_names_are_there(page):
    places = PLACE.findall(page.read_text(encoding="utf-8"))
    assert len(places) > 10
    assert [place for place in places if not list(ROOT.glob(place.rstrip("/")))] == []


@pytest.mark.parametrize("page", ["README.md", "docs/get-started.md"])
def test_the_number_of_modules_is_right(page):
    numbers = re.findall(r"(\d+)(?=\s+(?:\[attention|modules))", (ROOT / page).read_text(encoding="utf-8"))
    assert numbers == [str(len(attention.__all__))]


def test_the_house_stays_small():
    """A file is read in one sitting, a folder looked through in one glance; one module per file is the exception."""
    files = [path for part in ("custom_networks", "tools", "tests") for path in (ROOT / part).rglob("*.py")]
    assert len(files) > 100
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert [str(path) for path, number in lines.items() if number > 400] == []
    beside = Counter(path.parent for path in files if path.parent.name != "attention")
    assert [str(folder) for folder, number in beside.items() if number > 20] == []


def test_no_two_files_of_tests_have_one_name():
    """Pytest imports them by their name alone."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
