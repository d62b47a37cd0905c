"""What all looks share: they query the database, and say what is well and what is wrong."""

from __future__ import annotations

from typing import Any, NamedTuple

from partisan_async.enqueue.run import fetch


class Said(NamedTuple):
    """What a look says about one thing."""

    well: bool
    text: str


def well(text: str) -> Said:
    """Say in a few words what is well."""
    return Said(True, text)


def wrong(text: str) -> Said:
    """Say in a sentence what is wrong, and what to do."""
    return Said(False, text)


def ask(sql: str, **params: Any) -> list[Any]:
    """Return the rows of a query."""
    return fetch(sql, params or None)
