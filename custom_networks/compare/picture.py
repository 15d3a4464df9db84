"""The picture of a comparison: what each network costs, and how good it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from custom_networks.compare.table import Line
from custom_networks.files import replacing

SIZE = (7.0, 4.5)


def draw(lines: Sequence[Line], file: Path) -> None:
    """Draw mean Dice with its interval over multiply-adds, and the line of those that none beats in both.

    Args:
        lines: of the networks; one whose cost is unknown is left out.
        file: PNG to write.

    Raises:
        ModuleNotFoundError: if matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    known = sorted((line for line in lines if "macs" in line.facts), key=lambda line: int(line.facts["macs"]))
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    costs = [line.facts["macs"] / 1e9 for line in known]
    middle = math.sqrt(costs[0] * costs[-1]) if costs else 0.0
    for line, cost in zip(known, costs, strict=True):
        low, high = line.interval or (line.dice, line.dice)
        axes.errorbar(cost, line.dice, [[line.dice - low], [high - line.dice]], fmt="o", capsize=3)
        side = {"xytext": (-5, 5), "ha": "right"} if cost > middle else {"xytext": (5, 5)}
        axes.annotate(line.name, (cost, line.dice), textcoords="offset points", fontsize=8, **side)
    best = front(known)
    axes.plot([line.facts["macs"] / 1e9 for line in best], [line.dice for line in best], color="grey", lw=1, zorder=0)
    axes.set(xscale="log", xlabel="multiply-adds of a patch, billions", ylabel="mean Dice, 95 % interval over patients")
    for which in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        which(StrMethodFormatter("{x:g}"))
    axes.grid(alpha=0.3)
    with replacing(file) as partial:
        FigureCanvasAgg(figure).print_png(str(partial))


def front(lines: Sequence[Line]) -> list[Line]:
    """Return the networks that none costs less than and is at least as good as.

    Args:
        lines: with "macs" among their facts, the cheapest first.

    Example:
        >>> cheap, dear = (Line(n, {}, d, *[None] * 4, {"macs": m}) for n, d, m in (("a", 0.8, 1), ("b", 0.7, 2)))
        >>> [line.name for line in front([cheap, dear])]
        ['a']
    """
    best: list[Line] = []
    for line in lines:
        if not best or line.dice > best[-1].dice:
            best.append(line)
    return best
