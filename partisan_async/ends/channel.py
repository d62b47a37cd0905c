"""The channel on which the ends of tasks are announced, and how to read a message on it."""

from __future__ import annotations

ENDS_CHANNEL = "partisan_async.ended"


def announced(payload: str) -> list[str]:
    """Return the ids in a message, as text: any client may have sent it, with any content."""
    return payload.split(",")
