"""The one finder of cases: training, evaluation, ``check`` and ``adapt`` find the same ones in a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_networks.workflow.data.cases import Case, Found, Problem, below
from custom_networks.workflow.data.layouts.bids import read_bids
from custom_networks.workflow.data.layouts.case_folders import read_kits
from custom_networks.workflow.data.layouts.files import read_index
from custom_networks.workflow.data.layouts.listed import read_lists
from custom_networks.workflow.data.layouts.nnunet import file_ending_problem, read_nnunet
from custom_networks.workflow.data.layouts.paired import read_pairs, read_patterns
from custom_networks.workflow.data.layouts.unusable import name_it

LAYOUTS: tuple[Callable[[Path, Mapping[str, Any]], Found | None], ...] = (
    read_lists,
    read_nnunet,
    read_pairs,
    read_kits,
    read_bids,
)
"""What a folder may be, given with the content of its ``dataset.json``: the first that knows it reads it."""


def find_cases(root: Path, image_glob: str | None = None, label_glob: str | None = None) -> Found:
    """Return the cases whose files exist, and what is wrong with the others.

    With a pattern, the cases are what matches, see
    :func:`custom_networks.workflow.data.layouts.paired.read_patterns`; else those of the first of ``LAYOUTS``.

    Args:
        root: the data set folder.
        image_glob: pattern under it for images; with ``label_glob`` alone, ``imagesTr/*``.
        label_glob: the same for labels; with ``image_glob`` alone, ``labelsTr/*``.

    Raises:
        FileNotFoundError: if there is no image or no label at all; the sentence says what the folder seems to be.
        ValueError: if ``dataset.json`` is no JSON object, or it is not clear what belongs together.
    """
    found = read_patterns(root, image_glob, label_glob) if image_glob or label_glob else _read_layout(root)
    problems = [*found.problems, *files_of_two(found.cases, root)]
    return found._replace(cases=[case for case in found.cases if case.label not in case.images], problems=problems)


def _read_layout(root: Path) -> Found:
    index = read_index(root)
    if wrong := file_ending_problem(root, index):
        raise ValueError(wrong)
    for read in LAYOUTS:
        if (found := read(root, index)) is not None:
            return found
    raise FileNotFoundError(name_it(root))


def files_of_two(cases: Sequence[Case], root: Path) -> list[Problem]:
    """Name the labels that are the image of their case, or the label of another.

    Args:
        cases: those that were found.
        root: the data set folder.
    """
    problems = []
    first: dict[Path, Case] = {}
    for case in cases:
        label = case.label.resolve()
        if label in [path.resolve() for path in case.images]:
            problems.append(Problem(case.label, "is image and label of one case; give the label"))
            continue
        other = first.setdefault(label, case)
        if other.name != case.name:
            image = below(other.image, root)
            problems.append(
                Problem(case.label, f"is the label of {image} and of {below(case.image, root)}; give each its own")
            )
    return problems
