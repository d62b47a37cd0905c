"""How long something takes, for people: in words, or short for a table."""

from __future__ import annotations

import math

from partisan_async.text.printable import MARK

_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60))


def in_words(seconds: float) -> str:
    """Return such as "12 seconds", "3 hours" or "2 days"; in English, as what it stands in."""
    if not math.isfinite(seconds):
        return f"{MARK} seconds"
    count, unit = _split(seconds)
    return f"1 {unit}" if count == 1 else f"{count:,} {unit}s"


def short(seconds: float | None) -> str:
    """Return the same as "12 s", "3 h" or "2 d"; "-" for none."""
    if seconds is None:
        return "-"
    if not math.isfinite(seconds):
        return MARK
    count, unit = _split(seconds)
    return f"{count:,} {unit[0]}"


def _split(seconds: float) -> tuple[int, str]:
    for unit, length in _UNITS:
        # From two on: "1 hour" may be nearly two of them.
        if seconds >= 2 * length:
            return int(seconds / length), unit
    return max(0, round(seconds)), "second"
