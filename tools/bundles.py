"""Render the bundles from their specifications."""

from __future__ import annotations

import importlib
import json
import pkgutil
import shutil
from pathlib import Path

from tools import recipes
from tools.recipes.bundle import Bundle
from tools.recipes.formatting import to_json
from tools.recipes.segmentation import configs
from tools.recipes.segmentation.readme import readme
from tools.runs import ROOT, find_bundle, train_and_evaluate

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


def rendered(bundle: Bundle) -> dict[str, str]:
    """Return the text of every rendered file of a bundle by its path under the bundle's folder.

    Args:
        bundle: the specification.
    """
    files = {f"configs/{name}": to_json(config) + "\n" for name, config in configs(bundle).items()}
    return {
        **files,
        "configs/logging.conf": LOGGING,
        "docs/README.md": readme(bundle, ROOT / "bundles" / bundle.name),
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
        dice = "not measured yet"
        if run.is_file():
            classes = json.loads(run.read_text())["metrics"]["classes"]
            dice = ", ".join(f"{name} {values['dice']['mean']:.4f}" for name, values in classes.items())
        link = f"[{bundle.name}](bundles/{bundle.name}/docs/README.md)"
        lines.append(f"| {link} | {bundle.network_name} | {bundle.metadata['data_source'].split(' (')[0]} | {dice} |")
    head, _, rest = text.partition(START)
    _, _, tail = rest.partition(END)
    columns = ["| bundle | network | data | Dice (fold 0, original grid) |", "|---|---|---|---|"]
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


def train(bundle: str, dataset_dir: str | None = None, work_dir: str = "runs/training") -> None:
    """Train and evaluate a bundle, and keep the weights with their run file in it.

    Writes ``models/model.pt``, ``docs/runs/training.json`` and the README. An interrupted training goes on from its
    last checkpoint.

    Args:
        bundle: name or folder of the bundle.
        dataset_dir: the data set, if not the one in train.json.
        work_dir: folder for checkpoints and logs.

    Raises:
        ValueError: if there is no such bundle.
        RuntimeError: if the training or the evaluation fails.
    """
    folder = find_bundle(bundle)
    overrides = {} if dataset_dir is None else {"dataset_dir": dataset_dir}
    work = Path(work_dir) / folder.name
    record = train_and_evaluate(folder, [], work, overrides)
    (folder / "docs" / "runs").mkdir(parents=True, exist_ok=True)
    (folder / "docs" / "runs" / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    (folder / "models").mkdir(exist_ok=True)
    shutil.copyfile(work / "model.pt", folder / "models" / "model.pt")
    render()
