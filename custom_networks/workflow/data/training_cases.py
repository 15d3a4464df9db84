"""Which cases weights were trained on: written beside them by a training, looked up by an evaluation."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from custom_networks.files import checksum, read_json, write_text
from custom_networks.workflow.data.cases import case_name, files_of
from custom_networks.workflow.data.folds import ALL, read_folds

logger = logging.getLogger(__name__)
RECORD = "training_cases.json"
"""The file beside the weights."""
WEIGHTS_FOLD = "weights_fold"
"""Entry of a bundle's own file of folds: the fold of the training of its weights, or "all"."""


class Seen(NamedTuple):
    """What is known of the cases that weights were trained on.

    Args:
        names: their names, ``None`` if they are not known.
        what: which they are, or why they are not known, in words.
        dataset_dir: the folder of the last of the trainings, where it is known.
        shipped: whether the weights are those of a bundle, whose data set may lie in any folder.
    """

    names: frozenset[str] | None
    what: str
    dataset_dir: Path | None = None
    shipped: bool = False


class News(NamedTuple):
    """Whether all cases of a data set are new to weights, and why, in words.

    Args:
        all_new: none of them is among those trained on.
        why: the reason.
    """

    all_new: bool
    why: str


def known_to(seen: Seen, validation: Sequence[str]) -> str | None:
    """Return in words that cases to validate on are among those that starting weights were trained on, if they are.

    Args:
        seen: what is known of the weights.
        validation: the names of the cases.

    Example:
        >>> known_to(Seen(frozenset({"a", "b"}), "the 2 cases"), ["b", "c"])
        '1 of the 2 cases to validate on, such as b, are called as some of the 2 cases: their figures are too good'
    """
    both = sorted(set(validation) & (seen.names or set()))
    if not both:
        return None
    return (
        f"{len(both)} of the {len(validation)} cases to validate on, such as {both[0]}, are called as some of "
        f"{seen.what}: their figures are too good"
    )


class TrainingCases:
    """Keep which cases a training sees, and write that beside its weights.

    The record holds the checksum of the weights, so that it is never taken for that of others which somebody puts in
    their place. It is part of the resumable state: a resumed training has seen what it saw before.

    Args:
        dataset_dir: folder of the data set.
        training: the cases to train on.
        validation: the cases to validate on.
        finetune_ckpt: the weights that the training starts from, whose cases count as seen, too.
        default_folds: the bundle's own file of folds, see :func:`find_seen_cases`.

    Raises:
        ValueError: if the record beside ``finetune_ckpt`` is broken.
    """

    def __init__(
        self,
        dataset_dir: str | Path,
        training: Sequence[Mapping[str, Any]],
        validation: Sequence[Mapping[str, Any]],
        finetune_ckpt: str | Path | None = None,
        default_folds: str | Path | None = None,
    ) -> None:
        self.dataset_dir = Path(str(dataset_dir)).resolve()
        self.training, self.validation = _names(training), _names(validation)
        self.start = Seen(frozenset(), "none")
        if finetune_ckpt:
            self.start = find_seen_cases(Path(finetune_ckpt), default_folds)
            if known := known_to(self.start, self.validation):
                logger.warning("%s", known)
        self.earlier = self.start.names

    def write(self, weights: Path) -> None:
        """Write the record beside weights that lie there already.

        Args:
            weights: their file.
        """
        self._write(weights, {"dataset_dir": str(self.dataset_dir), **self.state_dict()})

    def write_of_start(self, weights: Path, start: Path) -> None:
        """Write the record of weights that this training has not changed; nothing, if their cases are not known.

        Args:
            weights: their file.
            start: the file that they were taken from.
        """
        if self.start.names is not None:
            folder = str(self.start.dataset_dir or start.resolve().parent)  # never that of the data at hand
            names = sorted(self.start.names)
            self._write(weights, {"dataset_dir": folder, "training": [], "validation": [], "earlier": names})

    def _write(self, weights: Path, record: Mapping[str, Any]) -> None:
        text = json.dumps({"weights": checksum(weights), **record}, indent=1)
        write_text(weights.with_name(RECORD), text + "\n")

    def state_dict(self) -> dict[str, list[str] | None]:
        """Return the names of the cases; those of earlier trainings are ``None`` if they are not known."""
        earlier = None if self.earlier is None else sorted(self.earlier - set(self.training))
        return {"training": self.training, "validation": self.validation, "earlier": earlier}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Count what a training saw before it was interrupted as seen, and say so where it was of other cases.

        Args:
            state: result of :meth:`state_dict`.
        """
        before, now = {*state["training"], *state["validation"]}, {*self.training, *self.validation}
        if before != now:
            logger.warning(
                "the training that goes on was begun on other cases: %d of these are new, %d of those are gone; its "
                "best score is that of other data; to compare on these start anew with its weights as finetune_ckpt",
                len(now - before),
                len(before - now),
            )
        earlier = state["earlier"]
        unknown = self.earlier is None or earlier is None
        self.earlier = None if unknown else frozenset({*(self.earlier or ()), *earlier, *state["training"]})


def find_seen_cases(weights: Path, default_folds: str | Path | None = None) -> Seen:
    """Return which cases weights were trained on.

    The record beside them says so; where there is none and they lie in the bundle's own folder ``models``, they are
    those that it was shipped with, and its own file of folds names their cases: those that train with its entry
    "weights_fold"; where it has none, any of them may be.

    Args:
        weights: their file, which may be absent.
        default_folds: the bundle's own file of folds, in its folder ``configs``.

    Raises:
        ValueError: if the record or the file of folds is broken.
    """
    file = weights.with_name(RECORD)
    if not file.is_file():
        folds = None if default_folds is None else Path(default_folds).resolve()
        if folds is not None and folds.is_file() and weights.resolve().parent == folds.parents[1] / "models":
            return _shipped_with(folds)
        return Seen(None, f"no {RECORD} beside {weights} names those")
    record = read_json(file)
    earlier = record.get("earlier")
    lists = [[] if earlier is None else earlier, record.get("training"), record.get("validation")]
    if not (
        {"weights", "dataset_dir", "earlier"} <= set(record)
        and isinstance(record["dataset_dir"], str)
        and all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists)
    ):
        raise ValueError(
            f"{file} is no record of the cases of a training; delete it, and the fold says what is evaluated"
        )
    if not weights.is_file() or record["weights"] != checksum(weights):
        return Seen(None, f"{file} is of other weights than {weights}")
    if earlier is None:
        return Seen(None, f"{weights} are fine-tuned from weights whose cases nothing names")
    names = frozenset({*lists[0], *lists[1]})
    return Seen(names, f"the {len(names)} cases that {weights} was trained on", Path(record["dataset_dir"]))


def _shipped_with(folds: Path) -> Seen:
    """Return which cases of a bundle's own folds the weights that it is shipped with were trained on."""
    splits, fold = read_folds(folds), read_json(folds).get(WEIGHTS_FOLD)
    names = frozenset(name for split in splits for part in split for name in part)
    if fold is None:
        return Seen(names, f"the {len(names)} cases in the bundle's own folds, {folds}")
    if fold != ALL:
        if isinstance(fold, bool) or not isinstance(fold, int) or not 0 <= fold < len(splits):
            raise ValueError(f"{folds} has {WEIGHTS_FOLD} {fold!r}, which is none of its folds; correct it")
        names = frozenset(splits[fold][0])
    what = f"the {len(names)} cases of the bundle's own folds, {folds}, that its weights were trained on"
    return Seen(names, what, shipped=True)


def compare_cases(names: Iterable[str], root: Path, seen: Seen) -> News:
    """Return whether all cases of a data set are new to weights.

    They are not where a name is known, and not in the very folder that was trained on, where other names may be given
    to the same files.

    Args:
        names: the names of the cases.
        root: the data set folder.
        seen: what the weights were trained on.
    """
    if seen.names is None:
        return News(False, seen.what)
    if known := sorted(seen.names & set(names)):
        return News(False, f"{len(known)} of them, such as {known[0]}, are called as one of {seen.what}")
    if seen.dataset_dir == root.resolve():
        return News(False, f"the folder is that of {seen.what}")
    return News(True, f"none of them is among {seen.what}")


def _names(cases: Iterable[Mapping[str, Any]]) -> list[str]:
    # the lists of MONAI Label have no names
    return sorted({str(case.get("case") or case_name(files_of(case["image"])[0])) for case in cases})
