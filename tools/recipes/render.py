"""Render the bundles from their specifications."""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path
from types import ModuleType

from tools.recipes import bundles
from tools.recipes.bundle import Bundle
from tools.recipes.formatting import to_json

ROOT = Path(__file__).resolve().parents[2]
START, END = "<!-- bundles:start -->", "<!-- bundles:end -->"


def all_bundles() -> list[Bundle]:
    """Return every specification under ``tools/recipes/bundles``."""
    names = sorted(module.name for module in pkgutil.iter_modules(bundles.__path__))
    modules = [importlib.import_module(f"{bundles.__name__}.{name}") for name in names]
    return [module.BUNDLE for module in modules if hasattr(module, "BUNDLE")]


def recipe_of(bundle: Bundle) -> ModuleType:
    """Return the recipe of a bundle: ``configs``, ``readme``, ``headline`` and ``SCORE``.

    Args:
        bundle: the specification.
    """
    return importlib.import_module(f"tools.recipes.{bundle.recipe}")


def render_bundle(bundle: Bundle) -> dict[str, str]:
    """Return the text of every rendered file of a bundle by its path under the bundle's folder.

    Args:
        bundle: the specification.
    """
    configs = recipe_of(bundle).configs(bundle)
    configs |= {f"profiles/{name}.json": dict(values) for name, values in bundle.profiles.items()}
    files = {f"configs/{name}": to_json(config) + "\n" for name, config in configs.items()}
    return {
        **files,
        "configs/logging.conf": Path(__file__).with_name("logging.conf").read_text(),
        "docs/README.md": recipe_of(bundle).readme(bundle, ROOT / "bundles" / bundle.name),
        "docs/data_license.txt": bundle.data_license,
        "LICENSE": (ROOT / "LICENSE").read_text(),
    }


def fill_table_of_bundles(specifications: list[Bundle], text: str) -> str:
    """Return the project's README with its table of bundles brought up to date.

    Args:
        specifications: the bundles.
        text: the README as it is.
    """
    lines = []
    for bundle in specifications:
        run = ROOT / "bundles" / bundle.name / "docs" / "runs" / "training.json"
        result = recipe_of(bundle).headline(json.loads(run.read_text())) if run.is_file() else "not measured yet"
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
    specifications = all_bundles()
    readme_file = ROOT / "README.md"
    files = {readme_file: fill_table_of_bundles(specifications, readme_file.read_text())}
    left_over: list[Path] = []
    for bundle in specifications:
        folder = ROOT / "bundles" / bundle.name
        files |= {folder / name: text for name, text in render_bundle(bundle).items()}
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
