"""Entries in the histories of rows: stored in English, shown in the reader's language."""

from __future__ import annotations

import re

from django.utils.translation import gettext, gettext_noop

ONCE = gettext_noop("Run once: task %(id)s")
"""The entry of a schedule that was run once. All other entries are names of actions."""

_ONCE = re.compile(re.escape(ONCE).replace(re.escape("%(id)s"), "([0-9]+)"))


def told(message: str) -> str:
    """Return an entry's message, in the reader's language if the package wrote it."""
    if found := _ONCE.fullmatch(message):
        return gettext(ONCE) % {"id": found[1]}
    return gettext(message) if message else ""
