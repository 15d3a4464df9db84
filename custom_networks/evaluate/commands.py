"""The command ``evaluate``: what was given is looked at before torch is imported, which takes seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from custom_networks.bundle_folder import find_bundle, profile_files
from custom_networks.files import data_folder

GIVE_PREDICTIONS = "give the folder that holds the predictions"
GIVE_LABELS = "give the folder that holds the labels, or that of their data set"
GIVE_DATA = "give the folder of a data set with images and labels"


@dataclass(frozen=True)
class Choice:
    """Which of the labelled cases to evaluate; all, if nothing says which.

    Args:
        cases: their names.
        folds_file: a file of folds that names them.
        fold: which of its folds validates; all of them if None.
    """

    cases: tuple[str, ...] = ()
    folds_file: Path | None = None
    fold: int | None = None


def evaluate(
    *folders: str,
    out: str,
    bundle: str | None = None,
    profile: str | Sequence[str] = (),
    folds: str | Sequence[str] = (),
    cases: str | Sequence[str] = (),
    folds_file: str | None = None,
    fold: str | None = None,
    tolerance: str | None = None,
) -> None:
    """Compare segmentations with labels: of one folder with those of another, or a bundle's with a labelled data set's.

    ``evaluate PREDICTIONS LABELS`` pairs the files of two folders by the names of their cases, whoever made them, and
    ``evaluate DATA --bundle NAME`` segments the images of DATA first, into ``predictions`` in the folder of the
    results. Both write the ``metrics.csv`` and ``metrics.json`` of an evaluation, on the grid of the labels, and print
    Dice, normalised surface Dice and HD95 of every class. A case without a prediction is an error, so that none is
    left out unsaid.

    Args:
        folders: predictions and labels; or, with ``bundle``, a data set alone. Predictions are label maps at any depth,
            called as their case, with ``_seg`` behind it or not; labels are a folder of label maps, or a data set in
            one of the layouts of ``docs/how-to/own-data.md``.
        out: folder for the results.
        bundle: name, folder, zip or address of the bundle that segments the images.
        profile: JSON files, or names of the bundle's profiles, the later wins: what the classes and their label values
            are, and patterns for images and labels. Without one the bundle says it, else the ``dataset.json`` of the
            labels, else every label value is a class.
        folds: checkpoints, or folders with ``model.pt``, in place of the bundle's own weights; given several times, the
            mean of their networks.
        cases: names of the cases to evaluate, with commas between them; all that have a label if not given.
        folds_file: a file of folds, as for a training, which names them in place of that.
        fold: the fold of that file that validates, from 0; all of its folds if None.
        tolerance: distance in mm between two surfaces that counts as none in the normalised surface Dice; that of the
            profile if None, else the middle one of the sides of a voxel, of the profile or the bundle (``spacing``) or
            of the labels.

    Raises:
        FileNotFoundError: if a folder or file does not exist, or holds nothing of its kind.
        ValueError: if what is compared does not fit together, or an argument does not fit.

    Example:
        ``custom_networks evaluate result data/mine --out evaluation``
    """
    if len(folders) != (2 if bundle is None else 1):
        given = f"got {' '.join(folders)}" if folders else "got none"
        raise ValueError(
            f"evaluate needs a folder of predictions and one of labels, {given}; or give a data set and --bundle"
            if bundle is None
            else f"with --bundle evaluate needs one folder, that of a data set, {given}"
        )
    if folds and bundle is None:
        raise ValueError("--folds are weights of a bundle; give --bundle, too, or leave them out")
    if fold is not None and folds_file is None:
        raise ValueError(f"--fold {fold} is one of a file; give --folds_file, too, or name the --cases")
    if cases and folds_file is not None:
        raise ValueError(f"--cases and --folds_file {folds_file} both say which to evaluate; leave one out")
    if fold is not None and not fold.isdecimal():
        raise ValueError(f"--fold must be a number from 0, got {fold}")
    result = Path(out)
    if result.exists() and not result.is_dir():
        raise ValueError(f"--out {out} is a file; give a folder")
    given_cases = [cases] if isinstance(cases, str) else list(cases)
    names = tuple(name.strip() for text in given_cases for name in text.split(",") if name.strip())
    choice = Choice(names, None if folds_file is None else Path(folds_file), None if fold is None else int(fold))
    distance = None if tolerance is None else _positive(tolerance)
    if bundle is not None:
        data, root = data_folder(folders[0], GIVE_DATA), find_bundle(bundle)
        weights = [folds] if isinstance(folds, str) else list(folds)
        profiles = profile_files(root, profile)
        from custom_networks.evaluate.bundle import evaluate_bundle

        evaluate_bundle(data, root, profiles, weights, choice, distance, result)
        return
    predictions, labels = data_folder(folders[0], GIVE_PREDICTIONS), data_folder(folders[1], GIVE_LABELS)
    files = [Path(name) for name in ([profile] if isinstance(profile, str) else profile)]
    from custom_networks.evaluate.two_folders import evaluate_folders

    evaluate_folders(predictions, labels, files, choice, distance, result)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError(f"--tolerance must be a positive number of mm, got {text}")
    return value
