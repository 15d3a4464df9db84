"""Names of structures that come in pairs, left and right."""

from __future__ import annotations

import re
from collections.abc import Sequence

LEFT_RIGHT = {"left": "right", "lt": "rt", "l": "r", "lh": "rh", "sinister": "dexter"}
LEFT_RIGHT_AXIS = 0
"""Of the axes of RAS, that from left to right."""
WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


def side_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the names that differ in left and right alone, the left one first.

    Args:
        names: names of classes.

    Example:
        >>> side_pairs(["background", "parotid_l", "parotid_r", "Left-Lung", "RightLung", "L1"])
        [('parotid_l', 'parotid_r'), ('Left-Lung', 'RightLung')]
    """
    words = {tuple(word.lower() for word in WORDS.findall(name)): name for name in names}
    pairs = []
    for key, name in words.items():
        for number, word in enumerate(key):
            other = (*key[:number], LEFT_RIGHT[word], *key[number + 1 :]) if word in LEFT_RIGHT else ()
            if other in words:
                pairs.append((name, words[other]))
    return pairs


def exchanged_sides(label_names: Sequence[str], axes: Sequence[int], knob: str) -> str | None:
    """Return a sentence about flips that make a left structure a right one, ``None`` where there are none.

    Args:
        label_names: names of the classes.
        axes: the axes of the flips.
        knob: what they are set with.

    Example:
        >>> exchanged_sides(["a", "kidney_l", "kidney_r"], [1, 2], "mirror_axes") is None
        True
    """
    pairs = side_pairs(label_names) if LEFT_RIGHT_AXIS in axes else []
    if not pairs:
        return None
    left, right = pairs[0]
    return (
        f"{knob} holds {LEFT_RIGHT_AXIS}, the axis from left to right, along which a flip makes {left} look like "
        f"{right} while its label stays; leave {LEFT_RIGHT_AXIS} out of {knob}"
    )
