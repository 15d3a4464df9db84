"""Which patches to classify, with their classes from a CSV file."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from custom_networks.workflow.data.folds import FOLDS
from custom_networks.workflow.data.tables import read_table
from custom_networks.workflow.data.training_cases import compare_cases, find_seen_cases

logger = logging.getLogger(__name__)

COLUMNS = ("image", "label", "split")
TRAINING = "training"
HELD_OUT = "held_out"


@dataclass(frozen=True)
class Row:
    """One line of the CSV file.

    Args:
        line: its number.
        image: path relative to the file.
        label: name of the class.
        split: "training" or the name of another split.
    """

    line: int
    image: str
    label: str
    split: str


def read_rows(path: Path) -> list[Row]:
    """Read the CSV file of a data set.

    Args:
        path: the file, with the columns image, label and, perhaps, split.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it cannot be read, has other columns or no row.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no {path}; write a CSV file with the columns image and label, or set dataset_dir and csv_file"
        )
    rows = []
    for line, entries in read_table(path, COLUMNS[:2], COLUMNS[2:]):
        if not entries["image"] or not entries["label"]:
            raise ValueError(f"line {line} of {path} has no image or no label; complete it")
        rows.append(Row(line, entries["image"], entries["label"], entries.get("split") or TRAINING))
    if not rows:
        raise ValueError(f"{path} has no row; add one image and label per line")
    return rows


def _check_rows(rows: Sequence[Row], path: Path, label_names: Sequence[str]) -> None:
    first: dict[Path, Row] = {}
    # "train" would become a split that no fold is made of, and "Test" one beside "test"
    spelling = {TRAINING: TRAINING, "train": TRAINING}
    for row in rows:
        other = first.setdefault((path.parent / row.image).resolve(), row)
        if other is not row:
            raise ValueError(
                f"{path} names {other.image} in line {other.line} and the same file again in line {row.line}; keep one "
                f"of them"
            )
        if row.label not in label_names:
            raise ValueError(
                f"line {row.line} of {path} has the class {row.label!r}, which is none of {', '.join(label_names)}; "
                f"correct it or set label_names"
            )
        if not row.split.isalpha():
            raise ValueError(f"line {row.line} of {path} has the split {row.split!r}; name it with letters only")
        known = spelling.setdefault(row.split.casefold(), row.split)
        if row.split != known:
            raise ValueError(f"line {row.line} of {path} has the split {row.split!r}; write it {known!r} in every line")
    missing = [row.image for row in rows if not (path.parent / row.image).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(rows)} images of {path} do not exist, such as {path.parent / missing[0]}; restore "
            f"them or remove their lines"
        )


def classification_data_list(
    dataset_dir: str | Path,
    section: str,
    *,
    label_names: Sequence[str],
    csv_file: str = "labels.csv",
    fold: int = 0,
    ckpt_path: str | Path | None = None,
) -> list[dict[str, str | int]]:
    """List the patches of one section of a data set with the indices of their classes.

    The CSV file has the columns "image" (path relative to the file), "label" (name of the class) and, where some cases
    are not for training, "split": "training", nothing (the same), or a name in letters such as "validation" or "test".
    The training rows are divided into five folds with equal shares of the classes: the case of rank i among the sorted
    paths of its class belongs to fold i modulo 5. The section "held_out" is the given fold, on which a training chooses
    its epoch; "training" is the four others; any other section is the split of that name. Where every row is for
    training, every other section is the held-out fold, or with ``ckpt_path`` all of them, if none is among the cases
    that :func:`custom_networks.workflow.data.training_cases.find_seen_cases` knows of the weights, which is logged.

    Args:
        dataset_dir: folder of the CSV file.
        section: "training", "held_out" or the name of a split.
        label_names: names of the classes, in the order of the network's outputs; two or more.
        csv_file: name of the CSV file.
        fold: held-out fold, 0 to 4.
        ckpt_path: the weights to evaluate; ``None`` in a training.

    Returns:
        ``{"image": path, "label": class index, "case": path as in the file}`` per patch, sorted by path.

    Raises:
        FileNotFoundError: if the CSV file or an image is missing.
        ValueError: if columns, classes or splits are wrong, a file occurs twice, there is no such split, the section
            lacks a class, or the record beside ``ckpt_path`` is broken.

    Cost:
        A few looks at the file system per image.
    """
    if len(label_names) < 2 or len(set(label_names)) < len(label_names):
        raise ValueError(
            f"label_names must be two or more different names, got {list(label_names)}; name every class once"
        )
    if not 0 <= fold < FOLDS:
        raise ValueError(f"fold must lie between 0 and {FOLDS - 1}, got {fold}; the folds are counted from 0")
    path = Path(dataset_dir) / csv_file
    rows = read_rows(path)
    _check_rows(rows, path, label_names)
    splits = sorted({row.split for row in rows})
    folded = section in (TRAINING, HELD_OUT) or splits == [TRAINING]
    split = TRAINING if folded else section
    if ckpt_path is not None and folded and section not in (TRAINING, HELD_OUT):
        news = compare_cases([row.image for row in rows], path.parent, find_seen_cases(Path(ckpt_path)))
        folded = not news.all_new
        logger.info(
            "%s: %s of the %d cases of %s (%s)" + "; to evaluate all, give them a split of their own" * folded,
            section,
            f"fold {fold}" if folded else "all",
            len(rows),
            path,
            news.why,
        )
    if split not in splits:
        raise ValueError(
            f"the section {section!r} needs rows of the split {split!r}, but {path} has {', '.join(splits)} only; "
            f"correct the section or the column split"
        )
    chosen: list[dict[str, str | int]] = []
    for index, name in enumerate(label_names):
        members = sorted(row.image for row in rows if row.label == name and row.split == split)
        if folded:
            members = [image for rank, image in enumerate(members) if (rank % FOLDS == fold) != (section == TRAINING)]
        if not members:
            condition = f" with fold {fold}" if folded else ""
            raise ValueError(
                f"{path} leaves no {section} case of the class {name!r}{condition}; add cases of this class"
            )
        chosen += [{"image": str(path.parent / image), "label": index, "case": image} for image in members]
    return sorted(chosen, key=lambda case: str(case["image"]))
