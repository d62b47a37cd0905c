"""The channel on which the ends of tasks are told, and how a message on it reads."""

from __future__ import annotations

ENDS_CHANNEL = "partisan_async.ended"


def announced(payload: str) -> list[str]:
    """Return the ids in a message, as text: anybody may have sent it."""
    return payload.split(",")
