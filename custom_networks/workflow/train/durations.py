"""Times for people."""

from __future__ import annotations

from datetime import datetime, timedelta


def format_duration(seconds: float) -> str:
    """Return a time that something takes, in its two largest units.

    Args:
        seconds: the time.

    Example:
        >>> [format_duration(seconds) for seconds in (7.4, 61, 3600, 100000)]
        ['7 s', '1 min 1 s', '1 h 0 min', '1 d 3 h']
    """
    whole = round(seconds)
    for unit, size, part, part_size in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part_size} {part}"
    return f"{whole} s"


def format_end(now: datetime, seconds: float) -> str:
    """Return when something ends, with the day unless it is today.

    Args:
        now: the present.
        seconds: how long it still takes.

    Example:
        >>> format_end(datetime(2026, 1, 2, 23, 0), 1800), format_end(datetime(2026, 1, 2, 23, 0), 7200)
        ('23:30', '2026-01-03 01:00')
    """
    end = now + timedelta(seconds=seconds)
    return f"{end:%H:%M}" if end.date() == now.date() else f"{end:%Y-%m-%d %H:%M}"
