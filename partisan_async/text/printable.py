"""Turns any text into one that can be printed or stored."""

from __future__ import annotations

import re

MARK = "?"
"""Shown to people instead of a value that cannot be read."""


def plain(text: str) -> str:
    """Return the text as one line of printable characters.

    Names and messages come from rows and errors. A line break in one would forge log lines, and an
    escape sequence would control the terminal.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def storable(text: str) -> str:
    """Return the text without what PostgreSQL cannot hold: NUL and halves of surrogate pairs."""
    return re.sub("[\x00\ud800-\udfff]", "\ufffd", text)
