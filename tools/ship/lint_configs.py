"""What is wrong in a bundle's config files: targets, arguments, references, knobs and paths."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.config_item import ComponentLocator, ConfigComponent, ConfigExpression
from monai.bundle.reference_resolver import ReferenceResolver

# The files that are given together, by the name of the run. Each file but the first is laid over those before it.
RUNS = {
    "train": ("train",),
    "inference": ("inference",),
    "evaluate": ("train", "evaluate"),
    "multi_gpu_train": ("train", "multi_gpu_train"),
    "multi_gpu_evaluate": ("train", "evaluate", "multi_gpu_evaluate"),
}
OPTIONAL_RUNS = {"inference_head": ("inference_head",)}
"""Runs that not every bundle has."""
# Read by monai.bundle or MONAI Label, not by another entry of the config.
GUARD = "knob_check#"
ENTRIES = {
    *("imports", "bundle_root", "run", "initialize", "finalize", "device", "dataset_dir", "network_def", "train"),
    *("validate", "displayable_configs", "evaluator", "inferer", "preprocessing", "postprocessing", "handlers"),
}
SPECIAL = {"_target_", "_requires_", "_disabled_", "_mode_", "_desc_", "_imports_", "_meta_", "_name_", "_debug_"}


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong, and where.

    Args:
        file: path under the bundle's folder.
        where: id path in the file, or nothing for the whole file.
        what: what is wrong, and what to do.
    """

    file: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.where + ': ' if self.where else ''}{self.what}"


def nearest(name: str, known: Sequence[str]) -> str:
    """Return a question after the known name that is nearest, or nothing.

    Args:
        name: what was written.
        known: what could have been meant; id paths only if they are as deep.

    Example:
        >>> nearest("epoch", ["epochs", "seed"])
        '; did you mean epochs?'
    """
    as_deep = [other for other in known if other.count("#") == name.count("#")]
    found = get_close_matches(name, as_deep, n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""


def read(file: Path) -> dict[str, Any]:
    """Return the contents of a config file.

    Args:
        file: a JSON file.

    Raises:
        ValueError: if it does not exist, or holds no JSON object.
    """
    try:
        content = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise ValueError(f"{file} does not exist; render the bundle, or download it again") from error
    except ValueError as error:
        raise ValueError(f"{file} holds no JSON ({error}); mend it or download it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds no JSON object; mend it or download it again")  # noqa: TRY004 - the file is wrong
    return content


def walk(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of a config with its id path, parents first.

    Args:
        value: a config, or a part of it.
        where: its id path.
    """
    yield where, value
    children: Mapping[Any, Any] = {}
    if isinstance(value, Mapping):
        children = value
    elif isinstance(value, list):
        children = dict(enumerate(value))
    for key, child in children.items():
        yield from walk(child, f"{where}#{key}" if where else str(key))


def combined(configs: Path, names: Sequence[str]) -> tuple[dict[str, Any], list[Problem]]:
    """Return config files laid one over the other, and the entries of the later ones that have no place.

    Args:
        configs: the bundle's folder of configs.
        names: file stems.
    """
    parser = ConfigParser(read(configs / f"{names[0]}.json"))
    problems = []
    for name in names[1:]:
        file = configs / f"{name}.json"
        for key, value in read(file).items():
            try:
                parser[key] = value
            except (KeyError, ValueError, IndexError, TypeError):
                parent = key.rpartition("#")[0]
                known = [where for where, _ in walk(parser.config)]
                text = f"lies under {parent}, which does not exist{nearest(parent, known)}"
                problems.append(Problem(_name(file), key, text))
    return dict(parser.config), problems


def _name(file: Path) -> str:
    parts = file.parts
    return "/".join(parts[len(parts) - 1 - parts[::-1].index("configs") :]) if "configs" in parts else file.name


@cache
def _components() -> dict[str, list[str]]:
    """Return the modules of MONAI by the name of what they define."""
    locator = ComponentLocator()
    locator.get_component_module_name("Compose")
    return dict(locator._components_table or {})


@cache
def target(path: str) -> Callable[..., Any] | str:
    """Return what a ``_target_`` names, or what is wrong with it.

    Args:
        path: dotted path, or the name of a class of MONAI.
    """
    if "." not in path:
        modules = _components().get(path)
        if not modules:
            return f"MONAI has no {path}{nearest(path, list(_components()))}"
        path = f"{modules[0] if isinstance(modules, list) else modules}.{path}"
    module, _, name = path.rpartition(".")
    try:
        place = import_module(module)
    except ImportError as error:
        return f"there is no module {module} ({error})"
    found = getattr(place, name, None)
    if found is None:
        return f"{module} has no {name}{nearest(name, dir(place))}"
    return found if callable(found) else f"{path} cannot be called"


def arguments(component: Mapping[str, Any], call: Callable[..., Any]) -> list[str]:
    """Return what is wrong with the arguments of a component.

    Args:
        component: a config with a ``_target_``.
        call: what it names.
    """
    if component.get("_mode_", "default") != "default":
        return []
    given = [key for key in component if key not in SPECIAL]
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):  # built in: no signature
        return []
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    problems = []
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        problems += [
            f"{component['_target_']} takes no {key}{nearest(key, named)}" for key in given if key not in named
        ]
    missing = [p.name for p in parameters if p.default is p.empty and p.name in named and p.name not in given]
    if missing:
        problems.append(f"{component['_target_']} needs {', '.join(missing)}")
    return problems


def references(text: str) -> list[str]:
    """Return the ids that a value refers to.

    Args:
        text: a string of a config.
    """
    if "@" not in text or not (text.startswith("@") or ConfigExpression.is_expression(text)):
        return []
    return sorted(
        name.lstrip("@").replace("::", "#") for name in ReferenceResolver.match_refs_pattern(text.replace("#", "::"))
    )


def check_components(config: Mapping[str, Any], file: str) -> list[Problem]:
    """Check every target and its arguments.

    Args:
        config: a config, or an overlay.
        file: its name.
    """
    problems = []
    for where, value in walk(config):
        if isinstance(value, Mapping) and ConfigComponent.is_instantiable(value):
            call = target(str(value["_target_"]))
            texts = [call] if isinstance(call, str) else arguments(value, call)
            problems += [Problem(file, where, text) for text in texts]
            first = "@code_path#0" if where.startswith("code_path#") else "@code_path"
            if str(value["_target_"]).startswith("custom_networks.") and value.get("_requires_") != first:
                problems.append(Problem(file, where, f'lacks "_requires_": "{first}", without which it is not found'))
    return problems


def check_references(config: Mapping[str, Any], own: Mapping[str, Any], file: str) -> list[Problem]:
    """Check that what is referred to exists.

    Args:
        config: the configs of a run laid one over the other.
        own: the entries of the last of them.
        file: its name.
    """
    known = [where for where, _ in walk(config)]
    problems = []
    for where, value in walk(own):
        for name in references(value) if isinstance(value, str) else []:
            if name not in known:
                problems.append(Problem(file, where, f"refers to @{name}, which does not exist{nearest(name, known)}"))
    return problems


def check_knobs(runs: Mapping[str, Mapping[str, Any]], file: str) -> list[Problem]:
    """Check that every entry on top of a config is used by some entry of a run that it belongs to.

    The guard that only looks at the knobs uses none of them.

    Args:
        runs: the configs of every run that begins with the file, by name.
        file: the file's name.
    """
    first = next(iter(runs.values()))
    used = {
        name.partition("#")[0]
        for config in runs.values()
        for where, value in walk(config)
        if isinstance(value, str) and not where.startswith(GUARD)
        for name in references(value)
    }
    return [Problem(file, key, "is used by no entry of any config") for key in first if key not in used | ENTRIES]


def check_paths(config: Mapping[str, Any], file: str) -> list[Problem]:
    """Check that no value is a path of one machine, and that expressions are Python and name what they import.

    Args:
        config: a config.
        file: its name.
    """
    problems = []
    for where, value in walk(config):
        if not isinstance(value, str):
            continue
        if re.match(r"(/|~|[A-Za-z]:[\\/])", value):
            problems.append(
                Problem(file, where, f"is a path of one machine, {value}; make it relative to @bundle_root")
            )
        if not ConfigExpression.is_expression(value):
            continue
        if "import custom_networks" in value or "custom_networks." in value:
            problems.append(Problem(file, where, "imports custom_networks in an expression; use a _target_"))
        try:
            compile(re.sub(r"@[\w#:]*", "_", value[1:]), where, "exec" if value.startswith("$import ") else "eval")
        except SyntaxError as error:
            problems.append(Problem(file, where, f"is no Python expression ({error.msg})"))
    return problems


def check_overrides(known: Mapping[str, Any], overrides: Mapping[str, Any], file: str) -> list[Problem]:
    """Check that overrides change what exists.

    Args:
        known: the configs of a run laid one over the other.
        overrides: id path to value.
        file: where they come from.
    """
    ids = [where for where, _ in walk(known)]
    problems = []
    for key, value in overrides.items():
        path = key.replace("::", "#")
        parent, _, name = path.rpartition("#")
        if path in ids:
            problems += check_components({path: value}, file) if isinstance(value, dict) else []
            continue
        component = ConfigParser(dict(known)).get(parent) if parent in ids else None
        if isinstance(component, Mapping) and ConfigComponent.is_instantiable(component):
            call = target(str(component["_target_"]))
            problems += (
                []
                if isinstance(call, str)
                else [Problem(file, key, text) for text in arguments({**component, name: value}, call)]
            )
            continue
        problems.append(Problem(file, key, f"is no entry of the config{nearest(path, ids)}"))
    return problems
