"""How pages show spans of time, large numbers and long names."""

from __future__ import annotations

import math
from datetime import datetime

from django import template
from django.utils import timezone
from django.utils.translation import gettext, gettext_lazy

from partisan_async.text.moments import told
from partisan_async.text.printable import MARK
from partisan_async.text.sizes import megabytes

register = template.Library()
register.filter("memory", megabytes)

_UNITS = (
    (gettext_lazy("%(count)s d"), 86_400),
    (gettext_lazy("%(count)s h"), 3_600),
    (gettext_lazy("%(count)s m"), 60),
)


@register.filter
def span(seconds: float | None) -> str:
    """Return seconds in a suitable unit, such as ``12 ms``, ``3.4 s`` or ``5 h``."""
    if seconds is None:
        return "-"
    if not math.isfinite(seconds):
        return MARK
    for unit, length in _UNITS:
        if seconds >= 2 * length:
            return unit % {"count": f"{seconds / length:.0f}"}
    if seconds >= 1:
        return gettext("%(count)s s") % {"count": f"{seconds:.{0 if seconds >= 10 else 1}f}"}
    return gettext("%(count)s ms") % {"count": f"{max(0.0, seconds) * 1000:.0f}"}


@register.filter
def moment(value: object) -> object:
    """Return a moment in the package's format: local time, and how long ago or from now."""
    return told(value, timezone.now()) if isinstance(value, datetime) else value


@register.filter
def number(count: float, at_most: int | None = None) -> str:
    """Return a number with commas between thousands.

    :param at_most: the limit of the count; ``+`` shows that it was reached.
    """
    if at_most is not None and count >= at_most:
        return f"{at_most:,}+"
    return f"{count:,.1f}" if 0 < count < 10 and count % 1 else f"{count:,.0f}"


@register.filter
def short(value: object, length: int = 60) -> str:
    """Return the text of something, or its beginning."""
    text = str(value)
    return text if len(text) <= length else f"{text[: length - 1]}…"
