"""One colour per class, the same in every picture, table and viewer, that the colour-blind tell apart."""

from __future__ import annotations

from collections.abc import Sequence

# on grey images the light ones stand out best
OKABE_ITO = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#0072b2")


def colours_of(names: Sequence[str]) -> dict[str, str]:
    """Return the colour of every class, ``#rrggbb``.

    The seven of Okabe and Ito, then the same lighter, then darker, then from the start.

    Args:
        names: names of the classes, without the background.

    Example:
        >>> colours_of(["Anterior", "Posterior"])
        {'Anterior': '#56b4e9', 'Posterior': '#e69f00'}

    References:
        M. Okabe, K. Ito, "Color Universal Design", 2008.
    """
    shades = [(255, 0.0), (255, 0.55), (0, 0.45)]
    colours = {}
    for number, name in enumerate(names):
        turn, which = divmod(number, len(OKABE_ITO))
        towards, share = shades[turn % len(shades)]
        mixed = [round(part + (towards - part) * share) for part in rgb(OKABE_ITO[which])]
        colours[name] = "#" + "".join(f"{part:02x}" for part in mixed)
    return colours


def rgb(colour: str) -> tuple[int, int, int]:
    """Return the parts of a colour.

    Args:
        colour: ``#rrggbb``.

    Example:
        >>> rgb("#56b4e9")
        (86, 180, 233)
    """
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return red, green, blue
