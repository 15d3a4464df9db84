"""What a validation says beside its mean: the Dice of every class, and the worst case by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.utils import string_list_all_gather

from custom_networks.workflow.data.cases import case_name


def _name(sample: Mapping[str, Any]) -> str:
    """Return the name of a case, which lists of others, such as MONAI Label's, do not have."""
    file = getattr(sample["image"], "meta", {}).get("filename_or_obj", "?")
    return str(sample.get("case") or case_name(str(file)))


class CaseScores:
    """Keep the Dice of every class and the case with the lowest mean of the last validation.

    Args:
        label_names: names of the classes, background first.
    """

    def __init__(self, label_names: Sequence[str]) -> None:
        self.names = list(label_names[1:])
        self.classes: dict[str, float] = {}
        self.worst: tuple[str, float] | None = None
        self._cases: list[str] = []

    def attach(self, engine: Engine) -> None:
        """Listen to an evaluator whose key metric is Dice.

        Args:
            engine: a MONAI evaluator, whose metric keeps the values of every case.
        """
        engine.add_event_handler(Events.STARTED, lambda _: self._cases.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._remember)
        engine.add_event_handler(Events.COMPLETED, self)

    def _remember(self, engine: Engine) -> None:
        self._cases += [_name(sample) for sample in engine.state.batch]  # type: ignore[union-attr]

    def __call__(self, engine: Engine) -> None:
        """Take the values of the validation that has ended, of all processes.

        A value that is NaN, of a class that a case does not have, counts nowhere.

        Args:
            engine: the evaluator.
        """
        cases = string_list_all_gather(self._cases)
        details = engine.state.metric_details[engine.state.key_metric_name]  # type: ignore[attr-defined]
        scores = torch.as_tensor(details).float().cpu()
        self.classes = dict(zip(self.names, scores.nanmean(0).tolist(), strict=True))
        means = scores.nanmean(1)
        number = int(means.nan_to_num(torch.inf).argmin())
        self.worst = None if bool(means.isnan().all()) else (cases[number], float(means[number]))

    def __str__(self) -> str:
        """Return both in words."""
        classes = ", ".join(
            f"{name} {dice:.3f}" if dice == dice else f"{name} -" for name, dice in self.classes.items()
        )
        return f"{classes}; worst case {self.worst[0]} {self.worst[1]:.3f}" if self.worst else classes
