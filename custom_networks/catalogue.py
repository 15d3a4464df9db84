"""What there is, said without importing torch: bundles, networks, attention modules, versions."""

from __future__ import annotations

import ast
import inspect
import platform
import re
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from json import dumps
from pathlib import Path
from typing import Any

from custom_networks import __version__
from custom_networks.bundle_folder import find_bundle, known_bundles, task_of, version_of
from custom_networks.files import read_json

WEIGHTS = "models/model.pt"
PACKAGE = Path(__file__).parent
PACKAGES = ("monai", "torch", "numpy", "nibabel", "pytorch-ignite", "fire", "scipy", "scikit-image", "pynrrd")


def _classes(folder: str) -> dict[str, ast.ClassDef]:
    """Return the classes that a subpackage offers, by name, read and not imported."""
    offered: dict[str, ast.ClassDef] = {}
    for statement in ast.parse((PACKAGE / folder / "__init__.py").read_text(encoding="utf-8")).body:
        if not isinstance(statement, ast.ImportFrom) or statement.module is None or statement.level:
            continue
        names = {alias.name for alias in statement.names}
        file = PACKAGE.parent / f"{statement.module.replace('.', '/')}.py"
        for node in ast.parse(file.read_text(encoding="utf-8")).body if file.is_file() else []:
            if isinstance(node, ast.ClassDef) and node.name in names:
                offered[node.name] = node
    return offered


def _summary(node: ast.ClassDef) -> str:
    return " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())


def attention_modules() -> dict[str, ast.ClassDef]:
    """Return the classes of the attention modules by the names in :data:`custom_networks.registry.ATTENTION`."""
    return {re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(): node for name, node in _classes("attention").items()}


def list_all(*, json: bool = False) -> None:
    """Print the bundles that can be named, the networks and the attention modules.

    Args:
        json: print one JSON object instead of a table.
    """
    bundles = [{"name": folder.name, "folder": str(folder), **_short(folder)} for folder in known_bundles()]
    networks = [{"name": name, "summary": _summary(node)} for name, node in _classes("nets").items()]
    modules = [{"name": name, "summary": _summary(node)} for name, node in attention_modules().items()]
    if json:
        _print_json({"bundles": bundles, "networks": networks, "attention": modules})
        return
    rows = [("bundles", [(str(entry["name"]), str(entry["title"])) for entry in bundles])]
    rows += [("networks, custom_networks.nets", [(entry["name"], entry["summary"]) for entry in networks])]
    rows += [("attention modules, custom_networks.plug", [(entry["name"], entry["summary"]) for entry in modules])]
    if not bundles:
        rows[0] = ("bundles: none here; name one by its folder, its zip or the address of its zip", [])
    width = max(len(name) for _, entries in rows for name, _ in entries)
    print("\n\n".join("\n".join([head, *(f"  {n:{width}}  {what}" for n, what in entries)]) for head, entries in rows))


def _short(folder: Path) -> dict[str, str]:
    try:
        title = str(read_json(folder / "configs" / "metadata.json").get("name", folder.name))
        return {"title": title, "task": task_of(folder), "version": version_of(folder)}
    except (ValueError, OSError) as error:  # a broken neighbour is no reason to name nothing
        return {"title": f"cannot be read: {error}", "task": "", "version": ""}


def info(name: str | None = None, *, json: bool = False) -> None:
    """Print what a bundle expects and gives, how an attention module is built, or the versions of this installation.

    Args:
        name: a bundle's name, folder, zip or address, an attention module's or a network's name; the versions of this
            installation if None, for a report of a bug.
        json: print one JSON object instead of lines.

    Raises:
        ValueError: if there is nothing of that name.
    """
    found = _installation() if name is None else _described(str(name))
    if json:
        _print_json(found)
        return
    width = max(len(key) for key in found)
    for key, value in found.items():
        text = (", ".join(map(str, value)) if isinstance(value, list) else str(value)) or "none"
        print(f"{key:{width}}  {text}")


def _print_json(document: dict[str, Any]) -> None:
    print(dumps(document, indent=2, ensure_ascii=False))


def _installation() -> dict[str, Any]:
    found: dict[str, Any] = {"custom_networks": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    place = {"folder": str(PACKAGE), "bundles": [folder.name for folder in known_bundles()]}
    return {**found, "system": platform.platform(), "processor": platform.machine(), **place}


def _described(name: str) -> dict[str, Any]:
    modules, networks = attention_modules(), _classes("nets")
    if name in modules:
        return _of_class("attention module", name, modules[name])
    if name in networks:
        return _of_class("network", name, networks[name])
    try:
        folder = find_bundle(name)
    except ValueError as error:
        lower = {own.lower(): own for own in (*modules, *networks, *(folder.name for folder in known_bundles()))}
        near = get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
        if not near or Path(name).exists() or "/" in name or name.endswith(".zip"):
            raise
        raise ValueError(f"nothing is called {name}; did you mean {lower[near[0]]}?") from error
    return _of_bundle(folder)


def _of_class(kind: str, name: str, node: ast.ClassDef) -> dict[str, Any]:
    constructor = next(n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
    arguments = ast.unparse(constructor.args).removeprefix("self, ")
    return {
        "name": name,
        "kind": kind,
        "summary": _summary(node),
        "arguments": arguments,
        "documentation": inspect.cleandoc(ast.get_docstring(node) or ""),
    }


def _of_bundle(folder: Path) -> dict[str, Any]:
    metadata = read_json(folder / "configs" / "metadata.json")
    config = read_json(folder / "configs" / "train.json")
    network = config.get("network_def")
    profiles = sorted(path.stem for path in (folder / "configs" / "profiles").glob("*.json"))
    return {
        "name": folder.name,
        "kind": "bundle",
        "folder": str(folder),
        **_short(folder),
        "network": network.get("_target_", "") if isinstance(network, dict) else "",
        "input": metadata.get("image_classes", ""),
        "output": metadata.get("pred_classes", ""),
        "classes": config.get("label_names", ""),
        "spacing in mm": config.get("spacing", ""),
        "patch in voxels": config.get("patch_size", ""),
        "data": metadata.get("data_source", ""),
        "intended use": metadata.get("intended_use", ""),
        "weights": WEIGHTS if (folder / WEIGHTS).is_file() else "",
        "profiles": profiles,
    }
