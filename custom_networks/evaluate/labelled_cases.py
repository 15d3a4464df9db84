"""The cases that have a label, in a data set or a folder of label maps, and which of them are evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom_networks.evaluate.commands import Choice
from custom_networks.workflow.data.cases import Case, Found, case_name, refuse, same_name, shared_cases
from custom_networks.workflow.data.folds import read_folds
from custom_networks.workflow.data.inference_list import RESULT
from custom_networks.workflow.data.layouts.files import broken, has_image_name, read_index, scan
from custom_networks.workflow.data.layouts.finder import find_cases
from custom_networks.workflow.data.layouts.listed import read_lists

SHOWN = 20


def find_labelled(root: Path, image_glob: str | None = None, label_glob: str | None = None) -> list[Case]:
    """Return the cases of a folder that have a label.

    A folder that holds image files itself, none of which its ``dataset.json`` lists, is one of label maps, each called
    as its case, with ``_seg`` behind it or not: nothing is known of the images. Any other is a data set.

    Args:
        root: the folder.
        image_glob: pattern under it for images, see
            :func:`custom_networks.workflow.data.layouts.finder.find_cases`.
        label_glob: the same for labels.

    Raises:
        FileNotFoundError: if there is no label.
        ValueError: if something in the folder is wrong.
    """
    paths = [] if image_glob or label_glob else [path for path in scan(root) if has_image_name(path)]
    if not paths or _lists_any(root):
        found = find_cases(root, image_glob, label_glob)
        refuse([*found.problems, *shared_cases(found.cases, root)])
    else:
        found = _label_maps(root, paths)
        refuse(found.problems)
    if not found.cases:
        raise FileNotFoundError(f"no case in {root} ({found.layout}) has a label; add labels or give another folder")
    return found.cases


def _lists_any(root: Path) -> bool:
    found = read_lists(root, read_index(root))
    return found is not None and bool(found.cases)


def _label_maps(root: Path, paths: Sequence[Path]) -> Found:
    problems = broken(paths)
    named: dict[str, Path] = {}
    for path in paths:
        if (first := named.setdefault(short_name(path), path)) is not path:
            problems.append(same_name(path, first, root))
    return Found([Case(name, (), path) for name, path in named.items()], problems, "label maps")


def short_name(path: Path) -> str:
    """Return what the case of a label map is called.

    Args:
        path: its file.

    Example:
        >>> short_name(Path("result/scan_seg.nii.gz")), short_name(Path("fold_0/scan.nii.gz"))
        ('scan', 'scan')
    """
    return case_name(path).removesuffix(RESULT)


def choose(cases: Sequence[Case], choice: Choice, root: Path) -> list[Case]:
    """Return the cases to evaluate.

    Args:
        cases: all that have a label.
        choice: which of them.
        root: where they are, for errors.

    Raises:
        FileNotFoundError: if there is no such file of folds.
        ValueError: if one that is asked for has no label, or the file has no such fold.
    """
    names, source = list(choice.cases), "--cases names"
    if choice.folds_file is not None:
        splits = read_folds(choice.folds_file)
        if choice.fold is not None and choice.fold >= len(splits):
            raise ValueError(f"{choice.folds_file} has the folds 0 to {len(splits) - 1}, got --fold {choice.fold}")
        chosen = splits if choice.fold is None else [splits[choice.fold]]
        names, source = [name for _, validation in chosen for name in validation], f"{choice.folds_file} names"
    if not names:
        return list(cases)
    known = {case.name: case for case in cases}
    if absent := [name for name in dict.fromkeys(names) if name not in known]:
        raise ValueError(
            f"{source} {listed(absent)}, of which there is no label in {root}; it has {listed(sorted(known))}"
        )
    return [known[name] for name in dict.fromkeys(names)]


def listed(names: Sequence[Any]) -> str:
    """Return names with commas between them, of many the first and how many more there are.

    Args:
        names: the names.

    Example:
        >>> listed(["a", "b"])
        'a, b'
    """
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(str, names[:SHOWN])) + more
