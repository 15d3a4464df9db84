"""Render the bundles from their specifications."""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path
from types import ModuleType

from tools import ROOT
from tools.recipes import bundles as specifications
from tools.recipes.bundle import Bundle
from tools.recipes.effects import tabulate_effects
from tools.recipes.formatting import to_json
from tools.recipes.knob_page import Configs, render_knob_page
from tools.recipes.markdown import format_table
from tools.recipes.model_card import render_model_card

START, END = "<!-- bundles:start -->", "<!-- bundles:end -->"
"""Between which a page has a table of bundles: the README what they are, the page on attention what theirs changes."""


def all_bundles() -> list[Bundle]:
    """Return every specification under ``tools/recipes/bundles``."""
    names = sorted(module.name for module in pkgutil.iter_modules(specifications.__path__))
    modules = [importlib.import_module(f"{specifications.__name__}.{name}") for name in names]
    return [module.BUNDLE for module in modules if hasattr(module, "BUNDLE")]


def spec_of(folder: Path) -> Bundle:
    """Return the specification that a bundle is rendered from.

    Args:
        folder: the bundle's folder.

    Raises:
        ValueError: if there is none.
    """
    for bundle in all_bundles():
        if bundle.name == folder.name:
            return bundle
    raise ValueError(f"{folder.name} has no specification in tools/recipes/bundles; add one")


def recipe_of(bundle: Bundle) -> ModuleType:
    """Return the recipe of a bundle: what its ``__all__`` names.

    Args:
        bundle: the specification.
    """
    return importlib.import_module(f"tools.recipes.{bundle.recipe}")


def render_bundle(bundle: Bundle, configs: Configs) -> dict[str, str]:
    """Return the text of every rendered file of a bundle by its path under the bundle's folder.

    Args:
        bundle: the specification.
        configs: what its recipe makes of it, by file name.
    """
    profiles = {f"profiles/{name}.json": values for name, values in bundle.profiles.items()}
    files = {f"configs/{name}": to_json(config) + "\n" for name, config in {**configs, **profiles}.items()}
    return {
        **files,
        "configs/logging.conf": Path(__file__).with_name("logging.conf").read_text(),
        "docs/README.md": recipe_of(bundle).render_readme(bundle, ROOT / "bundles" / bundle.name),
        "docs/model_card.yml": _model_card(bundle),
        "docs/data_license.txt": bundle.data_license,
        "LICENSE": (ROOT / "LICENSE").read_text(),
    }


def _model_card(bundle: Bundle) -> str:
    run = _run_file(bundle)
    metrics = recipe_of(bundle).list_metrics(json.loads(run.read_text()), bundle) if run.is_file() else []
    return render_model_card(bundle, metrics)


def _run_file(bundle: Bundle) -> Path:
    """Return the path of the run file of the shipped weights."""
    return ROOT / "bundles" / bundle.name / "docs" / "runs" / "training.json"


def table_of_bundles(bundles: list[Bundle], link: str) -> list[str]:
    """Return the table that says what there is, a row for each bundle.

    Args:
        bundles: the specifications.
        link: to what is said of one, with its name in braces.
    """
    rows = []
    for bundle in bundles:
        run, result = _run_file(bundle), "not measured yet"
        if run.is_file():
            result = recipe_of(bundle).state_result(json.loads(run.read_text()), bundle)
        named = f"[{bundle.name}]({link.format(name=bundle.name)})"
        rows.append([named, bundle.network_name, bundle.metadata["data_source"].split(" (")[0], result])
    return format_table(["bundle", "network", "data", "result"], rows)


def fill(page: Path, table: list[str]) -> str:
    """Return a page with its table of bundles brought up to date.

    Args:
        page: its file.
        table: the lines of the table.
    """
    head, _, rest = page.read_text().partition(START)
    _, _, tail = rest.partition(END)
    return "\n".join([head + START, "", *table, "", END + tail])


def render(check: bool = False) -> None:
    """Write the bundles' files, the tables of them and the page of the knobs, or check that they are up to date.

    Args:
        check: write nothing, and fail if a file differs from what would be written.

    Raises:
        ValueError: if a knob has no sentence or a sentence no knob; with ``check``, if a file is missing, stale, or
            left over.
    """
    bundles = [(bundle, recipe_of(bundle).build_configs(bundle)) for bundle in all_bundles()]
    known = [bundle for bundle, _ in bundles]
    pages = ROOT / "docs" / "bundles"
    readme, index, effects = ROOT / "README.md", pages / "index.md", ROOT / "docs" / "concepts" / "when-attention.md"
    files = {
        readme: fill(readme, table_of_bundles(known, "bundles/{name}/docs/README.md")),
        index: fill(index, table_of_bundles(known, "{name}.md")),
        effects: fill(effects, tabulate_effects([(own, recipe_of(own).SCORE) for own in known], ROOT / "bundles")),
        ROOT / "docs" / "reference" / "knobs.md": render_knob_page(bundles),
    }
    left_over: list[Path] = []
    for bundle, configs in bundles:
        folder = ROOT / "bundles" / bundle.name
        files |= {folder / name: text for name, text in render_bundle(bundle, configs).items()}
        files[pages / f"{bundle.name}.md"] = files[folder / "docs" / "README.md"]
        left_over += [path for path in sorted(folder.glob("configs/**/*.json")) if path not in files]
    left_over += [path for path in sorted(pages.glob("*.md")) if path not in files]
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
