"""A profile in the making, with one line about each finding and choice."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Draft:
    """What is found and chosen, in that order.

    Args:
        profile: entries of the profile.
        lines: what, its value, and why.
    """

    profile: dict[str, Any] = field(default_factory=dict)
    lines: list[tuple[str, str, str]] = field(default_factory=list)

    def say(self, what: str, value: str, why: str) -> None:
        """Add a line, in the place of an earlier one of the same.

        Args:
            what: the knob, or what was looked at.
            value: its value, for people.
            why: where it comes from.
        """
        line, known = (what, value, why), [before for before, _, _ in self.lines]
        if what in known:
            self.lines[known.index(what)] = line
        else:
            self.lines.append(line)

    def as_table(self) -> str:
        r"""Return the lines, one below the other.

        Example:
            >>> Draft(lines=[("cases", "20", "listed"), ("epochs", "9", "of 8 steps")]).as_table()
            'cases   20  (listed)\nepochs  9  (of 8 steps)'
        """
        width = max((len(what) for what, _, _ in self.lines), default=0)
        return "\n".join(f"{what:{width}}  {value}  ({why})" for what, value, why in self.lines)


def say_schedule(config: Mapping[str, Any], epochs: int, interval: int, steps: int, draft: Draft) -> None:
    """Enter epochs and what depends on them.

    Args:
        config: the bundle's train.json.
        epochs: how many.
        interval: epochs from one validation to the next.
        steps: steps of an epoch.
        draft: gets them.
    """
    draft.profile |= {"epochs": epochs, "val_interval": interval}
    if "gate_warm_up_epochs" in config:
        draft.profile["gate_warm_up_epochs"] = round(epochs * config["gate_warm_up_epochs"] / config["epochs"])
    draft.say("epochs", str(epochs), f"steps per epoch: {steps}; a validation every {interval} epochs (val_interval)")


def format_sizes(sizes: Iterable[float]) -> str:
    """Return sizes for people.

    Args:
        sizes: one per axis.

    Example:
        >>> format_sizes([1.5, 1.5, 10])
        '1.5 x 1.5 x 10'
    """
    return " x ".join(f"{size:g}" for size in sizes)


def as_json(profile: dict[str, Any]) -> str:
    """Return a profile as JSON, one line per entry.

    Args:
        profile: a flat dictionary.
    """
    lines = [f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in profile.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"
