"""Which classes keep only their largest connected component."""

from __future__ import annotations

from collections.abc import Sequence


def largest_component_labels(
    largest_component: bool | Sequence[str], label_names: Sequence[str], places: int = 1
) -> list[int]:
    """Return the indices of the classes that keep only their largest connected component.

    Args:
        largest_component: all of them, none, or their names.
        label_names: names of the network's classes, background first.
        places: how often the classes follow each other in a mask, as those of a head do, whose background is shared.

    Example:
        >>> names = ["background", "Head", "Tail"]
        >>> largest_component_labels(True, names), largest_component_labels(["Tail"], names, places=2)
        ([1, 2], [2, 4])
    """
    if isinstance(largest_component, bool):
        chosen = set(label_names) if largest_component else set()
    else:
        chosen = set(largest_component)
    foreground = label_names[1:]
    return [
        place * len(foreground) + number
        for place in range(places)
        for number, name in enumerate(foreground, start=1)
        if name in chosen
    ]
