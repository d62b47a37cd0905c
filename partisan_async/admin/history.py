"""What the rows' histories say was done: kept in English, shown in the reader's language."""

from __future__ import annotations

import re

from django.utils.translation import gettext, gettext_noop

ONCE = gettext_noop("Run once: task %(id)s")
"""Of a schedule; the other entries are the names of actions."""

_ONCE = re.compile(re.escape(ONCE).replace(re.escape("%(id)s"), "([0-9]+)"))


def told(message: str) -> str:
    """Return the message of an entry in the reader's language, as far as it is one of ours."""
    if found := _ONCE.fullmatch(message):
        return gettext(ONCE) % {"id": found[1]}
    return gettext(message) if message else ""
