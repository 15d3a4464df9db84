"""Every example in a docstring runs, and prints what it says.

An example may use ``torch``, ``nn`` and whatever its module holds; it imports everything else that it needs.
"""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

import custom_networks
import tools

PACKAGES = (custom_networks, tools)
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def _with_examples(package: ModuleType) -> dict[str, int]:
    """Return the modules of a package that have examples, and how many; found in the files, so nothing is imported."""
    folder = Path(package.__file__).parent
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        found[".".join(parts).removesuffix(".__init__")] = sum(line.startswith(">>> ") for line in lines)
    return {name: count for name, count in found.items() if count}


EXAMPLES = {package.__name__: _with_examples(package) for package in PACKAGES}
MODULES = {name: count for modules in EXAMPLES.values() for name, count in modules.items()}


@pytest.mark.parametrize("package", EXAMPLES)
def test_there_are_examples(package):
    assert EXAMPLES[package], f"no docstring of {package} has an example"


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in EXAMPLES:
            raise
        pytest.skip(f"{name} needs {error.name}")
    names = {"torch": torch, "nn": nn} | vars(module)
    tests = doctest.DocTestFinder().find(module, globs=names)
    assert sum(len(test.examples) for test in tests) == MODULES[name], "an example stands where doctest finds none"
    said: list[str] = []
    for test in tests:
        torch.manual_seed(0)
        doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append)
    assert not said, "".join(said)
