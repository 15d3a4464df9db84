"""The classes in the mask of a whole head, and which of them make a side and the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

TOTAL = "Total"
"""Name of all places together."""


def head_label_names(places: Sequence[Mapping[str, Any]], label_names: Sequence[str]) -> list[str]:
    """Return the names of the classes in the mask of a head: those of the network in every place.

    Args:
        places: the knob of that name.
        label_names: names of the network's classes, background first.

    Example:
        >>> head_label_names([{"name": "Left"}, {"name": "Right"}], ["background", "Head", "Tail"])
        ['background', 'Left-Head', 'Left-Tail', 'Right-Head', 'Right-Tail']
    """
    names = (f"{place['name']}-{name}" for place, name in product(places, label_names[1:]))
    return [label_names[0], *names]
