"""Words a duration for people: in full, or short for a table."""

from __future__ import annotations

import math

from django.utils.translation import ngettext_lazy

from partisan_async.text.printable import MARK

_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60))

_IN_WORDS = {
    "day": ngettext_lazy("%(count)s day", "%(count)s days", "number"),
    "hour": ngettext_lazy("%(count)s hour", "%(count)s hours", "number"),
    "minute": ngettext_lazy("%(count)s minute", "%(count)s minutes", "number"),
    "second": ngettext_lazy("%(count)s second", "%(count)s seconds", "number"),
}


def in_words(seconds: float) -> str:
    """Return a duration such as "12 seconds", "3 hours" or "2 days"."""
    if not math.isfinite(seconds):
        return _IN_WORDS["second"] % {"count": MARK, "number": 0}
    count, unit = _split(seconds)
    return _IN_WORDS[unit] % {"count": f"{count:,}", "number": count}


def short(seconds: float | None) -> str:
    """Return a duration such as "12 s", "3 h" or "2 d", for a command; "-" for ``None``."""
    if seconds is None:
        return "-"
    if not math.isfinite(seconds):
        return MARK
    count, unit = _split(seconds)
    return f"{count:,} {unit[0]}"


def _split(seconds: float) -> tuple[int, str]:
    for unit, length in _UNITS:
        # Only from two units on: "1 hour" could be nearly two.
        if seconds >= 2 * length:
            return int(seconds / length), unit
    return max(0, round(seconds)), "second"
