"""Draws ids for calls before they are inserted."""

from __future__ import annotations

from partisan_async.enqueue.run import fetch
from partisan_async.store import bulk


def drawn(count: int, alias: str) -> list[str]:
    """Return so many new ids, as text, the lowest first."""
    ((given,),) = fetch(*bulk.next_ids(count), alias)
    return sorted(given.split(","), key=int)
