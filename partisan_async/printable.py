"""Makes one line that can do nothing but be read of what rows and errors say."""

from __future__ import annotations


def plain(text: str) -> str:
    """Return the text as one line that can do nothing but be read.

    Names and messages come from rows and from errors: with a line break in it one would forge
    lines, and with an escape sequence it would command the terminal.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
