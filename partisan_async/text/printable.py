"""Makes of any text one that can be printed, or stored."""

from __future__ import annotations

import re

MARK = "?"
"""What people are shown in the place of what cannot be read."""


def plain(text: str) -> str:
    """Return the text as one line that can do nothing but be read.

    Names and messages come from rows and from errors: with a line break in it one would forge
    lines, and with an escape sequence it would command the terminal.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def storable(text: str) -> str:
    """Return the text without what PostgreSQL cannot hold: NUL and halves of surrogate pairs."""
    return re.sub("[\x00\ud800-\udfff]", "\ufffd", text)
