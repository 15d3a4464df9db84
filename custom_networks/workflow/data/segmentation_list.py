"""Which cases to train on and to validate on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom_networks.files import data_folder
from custom_networks.workflow.data.cases import SECTIONS, TRAINING, VALIDATION, Case, refuse, shared_cases
from custom_networks.workflow.data.folds import ALL, split_cases
from custom_networks.workflow.data.layouts.finder import find_cases
from custom_networks.workflow.data.training_cases import News, Seen, compare_cases, find_seen_cases

logger = logging.getLogger(__name__)


def segmentation_data_list(
    dataset_dir: str | Path,
    section: str,
    *,
    fold: int | str = 0,
    folds_file: str | Path | None = None,
    default_folds: str | Path | None = None,
    image_glob: str | None = None,
    label_glob: str | None = None,
    ckpt_path: str | Path | None = None,
) -> list[dict[str, Any]]:
    """List images and labels of the training or the validation set.

    The cases are those of :func:`custom_networks.workflow.data.layouts.finder.find_cases`, and
    :func:`custom_networks.workflow.data.folds.split_cases` says which of them train and which validate. What is left
    out of an evaluation is logged, and so is that with the fold "all" a training validates on its own cases. An
    evaluation of ``ckpt_path`` takes every case where none is among those that
    :func:`custom_networks.workflow.data.training_cases.find_seen_cases` knows of the weights, and warns where it takes
    some that the weights were trained on, in the folder of their training, and of shipped weights in any.

    Args:
        dataset_dir: folder of the data set.
        section: "training" or "validation".
        fold: number of the fold that validates, counted from 0, or "all": every case trains, and every case validates.
        folds_file: JSON file whose "folds" is a list of lists of case names, or nnU-Net's ``splits_final.json``.
        default_folds: the bundle's own file of folds, for the data set that it was made for.
        image_glob: pattern under ``dataset_dir`` for images; with ``label_glob`` alone, ``imagesTr/*``.
        label_glob: pattern under ``dataset_dir`` for labels; with ``image_glob`` alone, ``labelsTr/*``.
        ckpt_path: the weights to evaluate; ``None`` in a training.

    Returns:
        ``{"image": path, or list of one path per channel, "label": path, "case": name}`` per case.

    Raises:
        FileNotFoundError: if the folder or ``folds_file`` is missing, or there is no image or no label at all.
        ValueError: if images and labels do not pair up, ``dataset.json`` lists what is absent, a case is in both of its
            lists, ``folds_file`` does not fit, a section is empty, or the record beside ``ckpt_path`` is broken.
    """
    root = data_folder(dataset_dir)
    if section not in SECTIONS:
        raise ValueError(f"section must be one of {', '.join(SECTIONS)}, got {section!r}; correct it")
    cases, problems, layout = find_cases(root, image_glob, label_glob)
    refuse([*problems, *shared_cases(cases, root)])
    seen = None if ckpt_path is None else find_seen_cases(Path(ckpt_path), default_folds)
    news = News(False, "")
    if seen is not None and fold != ALL:
        news = compare_cases([case.name for case in cases], root, seen)
    split = split_cases(cases, root, fold, folds_file, default_folds, news.why if news.all_new else None)
    for names, word in ((split.training, "train on"), (split.validation, "validate on")):
        if not names:
            raise ValueError(f"{len(cases)} cases under {root} leave nothing to {word} with fold {fold}; add cases")
    chosen = set(split.training if section == TRAINING else split.validation)
    logger.info("%s: %d of %d cases of %s (%s; %s)", section, len(chosen), len(cases), root, layout, split.why)
    if fold == ALL and section == TRAINING:
        logger.warning("fold %s: every case is trained on, so the validation is no estimate of anything new", ALL)
    if section == VALIDATION and len(chosen) < len(cases):
        because = f" ({'although ' if news.all_new else ''}{news.why})" if news.why else ""
        hint = "the others are taken for those trained on%s; where none of them was, --fold %s evaluates all"
        logger.info(hint, because, ALL)
    if section == VALIDATION and seen is not None and (seen.shipped or seen.dataset_dir == root.resolve()):
        _warn_of_seen_cases(sorted(chosen & (seen.names or set())), len(chosen), seen)
    return [_as_entry(case) for case in cases if case.name in chosen]


def _warn_of_seen_cases(both: Sequence[str], cases: int, seen: Seen) -> None:
    if both:
        logger.warning(
            "%d of the %d cases to evaluate, such as %s, are called as some of %s: their figures say nothing of new "
            "cases; set fold to that of the training, if that held any back",
            len(both),
            cases,
            both[0],
            seen.what,
        )


def _as_entry(case: Case) -> dict[str, Any]:
    images = [str(path) for path in case.images]
    return {"image": images[0] if len(images) == 1 else images, "label": str(case.label), "case": case.name}
