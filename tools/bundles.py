"""Render the bundles from their specifications."""

from __future__ import annotations

import importlib
import json
import pkgutil
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

from custom_networks.bundle_folder import find_bundle
from tools import ROOT, recipes
from tools.recipes.bundle import Bundle
from tools.recipes.formatting import to_json
from tools.study.runs import train_and_evaluate

START, END = "<!-- bundles:start -->", "<!-- bundles:end -->"

LOGGING = """\
[loggers]
keys=root,nvimgcodec

[handlers]
keys=console

[formatters]
keys=brief

[logger_root]
level=INFO
handlers=console

[logger_nvimgcodec]
level=ERROR
handlers=
qualname=monai.data.nvimgcodec_pydicom_plugin

[handler_console]
class=StreamHandler
level=INFO
formatter=brief
args=(sys.stdout,)

[formatter_brief]
format=%(asctime)s %(levelname)s %(name)s: %(message)s
"""


def all_bundles() -> list[Bundle]:
    """Return every specification under ``tools/recipes``."""
    names = sorted(module.name for module in pkgutil.iter_modules(recipes.__path__) if not module.ispkg)
    modules = [importlib.import_module(f"tools.recipes.{name}") for name in names]
    return [module.BUNDLE for module in modules if hasattr(module, "BUNDLE")]


def recipe(bundle: Bundle) -> ModuleType:
    """Return the recipe of a bundle: ``configs``, ``readme``, ``headline`` and ``SCORE``.

    Args:
        bundle: the specification.
    """
    return importlib.import_module(f"tools.recipes.{bundle.recipe}")


def rendered(bundle: Bundle) -> dict[str, str]:
    """Return the text of every rendered file of a bundle by its path under the bundle's folder.

    Args:
        bundle: the specification.
    """
    configs = recipe(bundle).configs(bundle)
    configs |= {f"profiles/{name}.json": dict(values) for name, values in bundle.profiles.items()}
    files = {f"configs/{name}": to_json(config) + "\n" for name, config in configs.items()}
    return {
        **files,
        "configs/logging.conf": LOGGING,
        "docs/README.md": recipe(bundle).readme(bundle, ROOT / "bundles" / bundle.name),
        "docs/data_license.txt": bundle.data_license,
        "LICENSE": (ROOT / "LICENSE").read_text(),
    }


def index(bundles: list[Bundle], text: str) -> str:
    """Return the project's README with its table of bundles brought up to date.

    Args:
        bundles: the specifications.
        text: the README as it is.
    """
    lines = []
    for bundle in bundles:
        run = ROOT / "bundles" / bundle.name / "docs" / "runs" / "training.json"
        result = recipe(bundle).headline(json.loads(run.read_text())) if run.is_file() else "not measured yet"
        link = f"[{bundle.name}](bundles/{bundle.name}/docs/README.md)"
        lines.append(f"| {link} | {bundle.network_name} | {bundle.metadata['data_source'].split(' (')[0]} | {result} |")
    head, _, rest = text.partition(START)
    _, _, tail = rest.partition(END)
    columns = ["| bundle | network | data | result |", "|---|---|---|---|"]
    return "\n".join([head + START, "", *columns, *lines, "", END + tail])


def render(check: bool = False) -> None:
    """Write the rendered files of all bundles and the README's table, or check that they are up to date.

    Args:
        check: write nothing, and fail if a file differs from what would be written.

    Raises:
        ValueError: with ``check``, if a file is missing, stale, or left over.
    """
    bundles = all_bundles()
    readme_file = ROOT / "README.md"
    files = {readme_file: index(bundles, readme_file.read_text())}
    left_over: list[Path] = []
    for bundle in bundles:
        folder = ROOT / "bundles" / bundle.name
        files |= {folder / name: text for name, text in rendered(bundle).items()}
        left_over += [path for path in sorted(folder.glob("configs/**/*.json")) if path not in files]
    stale = [path for path, text in files.items() if not path.is_file() or path.read_text() != text]
    names = ", ".join(str(path.relative_to(ROOT)) for path in [*stale, *left_over])
    if check and names:
        raise ValueError(f"rendered files are stale ({names}); run: python -m tools bundles render")
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path])
    for path in left_over:
        path.unlink()
    print(f"wrote {names}" if names else "nothing to write")


def train(
    bundle: str, dataset_dir: str | None = None, seeds: int = 1, work_dir: str = "runs/training", jobs: int = 1
) -> None:
    """Train and evaluate a bundle, and keep the weights with their run file in it.

    Writes ``models/model.pt`` and ``docs/runs/training.json`` (seed 0), ``docs/runs/training_seed<n>.json`` of the
    other seeds, and the README. An interrupted training goes on from its last checkpoint.

    Args:
        bundle: name or folder of the bundle.
        dataset_dir: the data set, if not the one in train.json.
        seeds: number of seeds, counted from 0.
        work_dir: folder for checkpoints and logs.
        jobs: trainings side by side; with more than one, each has one CPU thread.

    Raises:
        ValueError: if there is no such bundle.
        RuntimeError: if a training or an evaluation fails.
    """
    folder = find_bundle(bundle)
    data = {} if dataset_dir is None else {"dataset_dir": dataset_dir}

    def run(seed: int) -> None:
        work = Path(work_dir) / folder.name / f"seed{seed}"
        overrides = {**data, "seed": seed} if seed else data
        record = train_and_evaluate(folder, [], work, overrides, threads=1 if jobs > 1 else None)
        path = folder / "docs" / "runs" / (f"training_seed{seed}.json" if seed else "training.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=1) + "\n")
        if seed == 0:
            (folder / "models").mkdir(exist_ok=True)
            shutil.copyfile(work / "model.pt", folder / "models" / "model.pt")

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(run, range(seeds)))
    render()
