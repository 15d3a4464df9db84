"""What of an image is air: found from its own values, since a network sees them normalised."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Range = tuple[float, float]

SAMPLED = 10**6
LEAST_SHARE = 0.05
SPREADS = 8
# the standard deviation of a normal distribution over its median absolute deviation
NORMAL = 1.4826
TOLERANCE = 1e-3
BINS = 256


def otsu_threshold(values: Tensor) -> float:
    """Return the threshold that parts values into two classes with the largest variance between them.

    Args:
        values: one axis of numbers.

    Example:
        >>> 2.0 < otsu_threshold(torch.tensor([0.0, 1.0, 2.0, 9.0, 10.0])) < 9.0
        True

    References:
        N. Otsu, "A Threshold Selection Method from Gray-Level Histograms", IEEE Transactions on Systems, Man, and
        Cybernetics 9, 1979, doi:10.1109/TSMC.1979.4310076.
    """
    low, high = float(values.min()), float(values.max())
    counts = torch.histc(values.double(), BINS, low, high)
    centres = low + (torch.arange(BINS, dtype=torch.float64, device=values.device) + 0.5) * (high - low) / BINS
    below, moment = counts.cumsum(0), (counts * centres).cumsum(0)
    share = below / below[-1]
    between = (moment[-1] / below[-1] * share - moment / below[-1]).square() / (share * (1 - share))
    between = between.nan_to_num(0.0, posinf=0.0)
    # every threshold in a gap between the classes is as good; the middle is safe
    best = float((between >= between.max() * (1 - 1e-9)).nonzero().double().mean())
    return low + (best + 1) * (high - low) / BINS


def air_of(channel: Tensor) -> Range | None:
    """Return the range of the values of air in one channel of an image, or ``None`` where no air is told apart.

    Otsu's threshold parts the values into dark and bright ones. Where one value makes up the most of the dark ones, or
    else a twentieth of all and is not the largest, air is that value: what is around a masked head or a field of view,
    or clipped intensities. Otherwise air is what is up to eight standard deviations above the median of the dark
    values, the deviation from their median absolute deviation, if that is still below the threshold: the noise around a
    body. Dark values that spread as tissue does fail that.

    Args:
        channel: ``(*S)``, normalised or not; of a large one, evenly spread voxels are looked at.

    Example:
        >>> air_of(torch.cat([torch.full((50,), -1.0), torch.linspace(0, 4, 50)]))
        (-1.005, -0.995)
        >>> air_of(torch.linspace(0, 4, 100)) is None
        True
    """
    step = math.ceil((channel.numel() / SAMPLED) ** (1 / channel.dim()))
    values = channel[(slice(None, None, step),) * channel.dim()].flatten().float()
    low, high = float(values.min()), float(values.max())
    if low == high:
        return None
    tolerance = TOLERANCE * (high - low)
    threshold = otsu_threshold(values)
    dark = values[values < threshold]
    median = float(dark.median())
    reach = SPREADS * NORMAL * float((dark - median).abs().median())
    enough = len(dark) >= LEAST_SHARE * len(values)
    if enough and reach <= tolerance:
        return (median - tolerance, median + tolerance)
    if enough and median + reach < threshold:
        return (-math.inf, median + reach)
    numbers, counts = values.unique(return_counts=True)
    often = int(counts.argmax())
    value = float(numbers[often])
    if value < high and counts[often] >= LEAST_SHARE * len(values):
        return (value - tolerance, value + tolerance)
    return None


def find_air(image: Tensor) -> list[Range] | None:
    """Return the range of the values of air per channel, or ``None`` where a channel shows none.

    Args:
        image: ``(C, *S)``.

    Example:
        >>> find_air(torch.zeros(1, 8, 8, 8)) is None
        True
    """
    ranges = [air_of(channel) for channel in image]
    found = [one for one in ranges if one is not None]
    return found if len(found) == len(ranges) else None


def content_of(image: Tensor, air: Sequence[Range]) -> Tensor:
    """Return where any channel is not air.

    Args:
        image: ``(C, *S)``.
        air: range of the values of air per channel.

    Shape:
        ``(*S)``, bool.

    Example:
        >>> content_of(torch.tensor([[0.0, 5.0], [0.0, 0.0]]), [(-1.0, 1.0), (-1.0, 1.0)])
        tensor([False,  True])
    """
    content = torch.zeros(image.shape[1:], dtype=torch.bool, device=image.device)
    planes = max(1, SAMPLED // max(1, content[:1].numel()))
    # some planes at a time: what is compared would take more than the image
    for part, channels in zip(content.split(planes), image.split(planes, dim=1), strict=True):
        for channel, (low, high) in zip(channels, air, strict=True):
            part |= (channel < low) | (channel > high)
    return content


def box_of(content: Tensor) -> tuple[slice, ...] | None:
    """Return the smallest box with everything that is true, ``None`` where nothing is.

    Args:
        content: ``(*S)``, bool.

    Example:
        >>> box_of(torch.tensor([[False, True, False, True, False]]))
        (slice(0, 1, None), slice(1, 4, None))
    """
    box = []
    for axis in range(content.dim()):
        others = [a for a in range(content.dim()) if a != axis]
        places = (content.any(others) if others else content).nonzero()
        if len(places) == 0:
            return None
        box.append(slice(int(places[0]), int(places[-1]) + 1))
    return tuple(box)
