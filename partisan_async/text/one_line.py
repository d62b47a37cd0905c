"""What an error says, in one line: for log lines and for people."""

from __future__ import annotations


def explain(error: BaseException) -> str:
    """Return what an error says, in one line."""
    return " ".join(str(error).split()) or "no answer"
