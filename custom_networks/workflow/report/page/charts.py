"""Charts as SVG: they scale, print, and take the colours of the page, light or dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from custom_networks.workflow.report.statistics import Agreement

WIDTH = 360
ROW = 44
MARGIN = 12
DOT = 3.2


@dataclass(frozen=True)
class Row:
    """What a strip plot shows of one class.

    Args:
        name: of the class.
        colour: of its dots.
        values: one per case.
        cases: their names.
        centre: where a line stands.
        interval: what lies beneath the line, if it is known.
    """

    name: str
    colour: str
    values: Sequence[float]
    cases: Sequence[str]
    centre: float
    interval: tuple[float, float] | None


def element(name: str, *content: str, **attributes: object) -> Markup:
    """Return an element of SVG, its content and attributes escaped unless they are markup already.

    Args:
        name: of the element.
        *content: what stands in it.
        **attributes: a ``_`` stands for a ``-``, and one at the end is dropped.

    Example:
        >>> element("text", "<b>", text_anchor="end", class_="axis")
        Markup('<text text-anchor="end" class="axis">&lt;b&gt;</text>')
    """
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_short(value) if isinstance(value, float) else value)}"'
        for key, value in attributes.items()
    )
    return Markup(f"<{name}{said}>{''.join(escape(part) for part in content)}</{name}>")


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return round numbers from just below ``low`` to just above ``high``.

    Args:
        low: least value to show.
        high: largest value to show.
        count: about how many steps.

    Example:
        >>> nice_ticks(0.81, 0.93)
        [0.8, 0.85, 0.9, 0.95]
    """
    if not high > low:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{index * step:.10g}") for index in range(first, last + 1)]


def strip_plot(rows: Sequence[Row], unit: str, title: str) -> Markup:
    """Draw one dot per case and one row per class, with its mean and the interval of the mean.

    Args:
        rows: the classes.
        unit: what the numbers are.
        title: what the chart says, for who cannot see it.
    """
    every = [value for row in rows for value in row.values]
    ticks = nice_ticks(min(every), max(every))
    height = ROW * len(rows) + 40

    def x(value: float) -> float:
        return MARGIN + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (WIDTH - 2 * MARGIN)

    parts = [_scale(ticks, x, ROW * len(rows) + 4, unit)]
    for number, row in enumerate(rows):
        middle = ROW * number + 30
        parts.append(element("text", row.name, x=MARGIN, y=middle - 16, class_="name"))
        if row.interval is not None:
            start, end = map(x, row.interval)
            shape = {"x": start, "y": middle - 9, "width": max(end - start, 1.0), "height": 18}
            parts.append(element("rect", class_="interval", **shape))
        parts.append(element("line", x1=x(row.centre), x2=x(row.centre), y1=middle - 9, y2=middle + 9, class_="mean"))
        jitter = np.random.default_rng(0).uniform(-6, 6, len(row.values))
        for value, case, offset in zip(row.values, row.cases, jitter, strict=True):
            tip = element("title", f"{case}: {value:.3g}")
            dot = {"cx": x(value), "cy": middle + float(offset), "r": DOT}
            parts.append(element("circle", tip, fill=row.colour, class_="dot", **dot))
    return _chart(parts, WIDTH, height, title)


def distribution(value: float, others: Sequence[float], colour: str, title: str) -> Markup:
    """Draw a value on the distribution of others: its outline, their middle 90 %, their median, and a mark.

    Where the value lies farther out than the others reach, an arrow at the edge stands for it.

    Args:
        value: what is marked.
        others: the others, ascending, at least one.
        colour: of the structure.
        title: what the chart says, for who cannot see it.
    """
    width, height, middle = 220, 40, 16
    numbers = np.asarray(others, dtype=float)
    spread = float(numbers.std()) * len(numbers) ** -0.2 or abs(float(numbers[0])) * 0.05 or 1.0
    first, last = float(numbers[0]) - spread, float(numbers[-1]) + spread
    reach = (last - first) / 2
    low, high = max(min(value, first), first - reach), min(max(value, last), last + reach)

    def x(number: float) -> float:
        return MARGIN + (number - low) / (high - low) * (width - 2 * MARGIN)

    grid = np.linspace(first, last, 48)
    density = np.exp(-(((grid[:, None] - numbers) / spread) ** 2) / 2).sum(axis=1)
    heights = density / density.max() * 12
    upper = [f"{x(at):.1f},{middle - up:.1f}" for at, up in zip(grid, heights, strict=True)]
    lower = [f"{x(at):.1f},{middle + up:.1f}" for at, up in zip(grid[::-1], heights[::-1], strict=True)]
    start, median, end = (x(float(number)) for number in np.percentile(numbers, (5, 50, 95)))
    at = x(min(max(value, low), high))
    arrow = 0 if low <= value <= high else 7 if value > high else -7
    mark = (
        f"M{at - arrow:.1f} {middle}h{arrow}l{-arrow} -6m{arrow} 6l{-arrow} 6"
        if arrow
        else f"M{at:.1f} 1V{middle * 2 - 1}"
    )
    head = [] if arrow else [element("path", d=f"M{at - 4:.1f} 0h8l-4 6z", class_="head")]
    parts = [
        element("polygon", points=" ".join(upper + lower), fill=colour, class_="violin"),
        element("line", x1=start, x2=end, y1=middle, y2=middle, class_="middle"),
        element("line", x1=median, x2=median, y1=middle - 4, y2=middle + 4, class_="middle"),
        element("path", d=mark, class_="mark"),
        *head,
        element("text", f"{numbers[0]:.3g}", x=x(float(numbers[0])), y=height - 1, text_anchor="middle"),
        element("text", f"{numbers[-1]:.3g}", x=x(float(numbers[-1])), y=height - 1, text_anchor="middle"),
    ]
    return _chart(parts, width, height, title)


def agreement_plot(
    reference: Sequence[float],
    prediction: Sequence[float],
    cases: Sequence[str],
    found: Agreement,
    colour: str,
    name: str,
) -> Markup:
    """Draw the differences of two measurements over their means, with bias and limits of agreement.

    Args:
        reference: in mL.
        prediction: in mL.
        cases: their names.
        found: their agreement.
        colour: of the dots.
        name: of the class.
    """
    first, second = np.asarray(reference, dtype=float), np.asarray(prediction, dtype=float)
    means, differences = (first + second) / 2, second - first
    lines = [(found.bias, "bias")] + [(limit, "limit") for limit in (found.low, found.high) if not math.isnan(limit)]
    across = nice_ticks(float(means.min()), float(means.max()))
    up = nice_ticks(min(0.0, *differences, *(v for v, _ in lines)), max(0.0, *differences, *(v for v, _ in lines)))
    left, bottom, top = 46, 190, 10

    def x(value: float) -> float:
        return left + (value - across[0]) / (across[-1] - across[0]) * (WIDTH - left - MARGIN)

    def y(value: float) -> float:
        return bottom - (value - up[0]) / (up[-1] - up[0]) * (bottom - top)

    parts = [_scale(across, x, bottom, "mean of reference and prediction, mL", top=top)]
    for tick in up:
        parts.append(element("line", x1=left, x2=WIDTH - MARGIN, y1=y(tick), y2=y(tick), class_="grid"))
        parts.append(element("text", f"{tick:g}", x=left - 6, y=y(tick) + 4, text_anchor="end"))
    parts.append(element("line", x1=left, x2=WIDTH - MARGIN, y1=y(0.0), y2=y(0.0), class_="zero"))
    for value, kind in lines:
        parts.append(element("line", x1=left, x2=WIDTH - MARGIN, y1=y(value), y2=y(value), class_=kind))
    for mean, difference, case in zip(means, differences, cases, strict=True):
        tip = element("title", f"{case}: {difference:+.3g} mL")
        dot = {"cx": x(float(mean)), "cy": y(float(difference)), "r": DOT}
        parts.append(element("circle", tip, fill=colour, class_="dot", **dot))
    return _chart(parts, WIDTH, bottom + 36, f"differences of volume of {name}, bias {found.bias:.3g} mL")


def curve(xs: Sequence[float], ys: Sequence[float], name: str, kind: str) -> Markup:
    """Draw a line over the epochs.

    Args:
        xs: epochs.
        ys: one number per epoch.
        name: what they are.
        kind: class of the line in the style sheet.
    """
    span = max(1, round(max(xs) - min(xs)))
    across = nice_ticks(min(xs), min(xs) + span, min(4, span))
    up = nice_ticks(min(ys), max(ys))
    left, bottom, top = 46, 150, 10

    def x(value: float) -> float:
        return left + (value - across[0]) / (across[-1] - across[0]) * (WIDTH - left - MARGIN)

    def y(value: float) -> float:
        return bottom - (value - up[0]) / (up[-1] - up[0]) * (bottom - top)

    parts = [_scale(across, x, bottom, "epoch", top=top)]
    for tick in up:
        parts.append(element("line", x1=left, x2=WIDTH - MARGIN, y1=y(tick), y2=y(tick), class_="grid"))
        parts.append(element("text", f"{tick:g}", x=left - 6, y=y(tick) + 4, text_anchor="end"))
    points = [(x(a), y(b)) for a, b in zip(xs, ys, strict=True)]
    parts.append(element("polyline", points=" ".join(f"{a:.1f},{b:.1f}" for a, b in points), class_=kind))
    if len(points) <= 30:
        parts += [element("circle", cx=a, cy=b, r=2.5, class_=f"{kind} point") for a, b in points]
    return _chart(parts, WIDTH, bottom + 36, f"{name} over the epochs, from {ys[0]:.3g} to {ys[-1]:.3g}")


def _scale(ticks: Sequence[float], x: Callable[[float], float], y: float, unit: str, top: float = 8) -> Markup:
    parts = []
    for tick in ticks:
        parts.append(element("line", x1=x(tick), x2=x(tick), y1=top, y2=y, class_="grid"))
        parts.append(element("text", f"{tick:g}", x=x(tick), y=y + 15, text_anchor="middle"))
    parts.append(element("text", unit, x=WIDTH / 2, y=y + 31, text_anchor="middle", class_="unit"))
    return Markup("").join(parts)


def _short(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")


def _chart(parts: Sequence[Markup], width: int, height: int, title: str) -> Markup:
    return element(
        "svg", *parts, viewBox=f"0 0 {width} {height}", role="img", aria_label=title, class_="chart", width=width
    )
