"""Render the bundles from their specifications."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from tools import recipes
from tools.recipes.bundle import Bundle
from tools.recipes.formatting import to_json
from tools.recipes.segmentation import configs

ROOT = Path(__file__).resolve().parent.parent

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
        "docs/data_license.txt": bundle.data_license,
        "LICENSE": (ROOT / "LICENSE").read_text(),
    }


def render(check: bool = False) -> None:
    """Write the rendered files of all bundles, or check that they are up to date.

    Args:
        check: write nothing, and fail if a file differs from what would be written.

    Raises:
        ValueError: with ``check``, if a file is missing, stale, or left over.
    """
    stale = []
    for bundle in all_bundles():
        folder = ROOT / "bundles" / bundle.name
        files = rendered(bundle)
        left_over = {str(path.relative_to(folder)) for path in folder.glob("configs/**/*.json")} - set(files)
        for name, text in files.items():
            path = folder / name
            if not path.is_file() or path.read_text() != text:
                stale.append(str(path.relative_to(ROOT)))
                if not check:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(text)
        for name in sorted(left_over):
            stale.append(f"bundles/{bundle.name}/{name}")
            if not check:
                (folder / name).unlink()
    if check and stale:
        raise ValueError(f"{len(stale)} rendered files are stale ({', '.join(stale)}); run: python -m tools bundles render")
    print("\n".join(stale) if stale else "nothing to write")
