"""Runs SQL on Django's connection to the tasks' database, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connections

from partisan_async.store.statement import database

Params = Mapping[str, Any] | Sequence[Any] | None
"""``None``: no parameters; a ``%`` in the SQL then stands for itself."""


def run(sql: str, params: Params = None, alias: str | None = None) -> None:
    """Run a statement that returns nothing.

    :param alias: the database; ``None``: that of the tasks.
    """
    with connections[alias or database()].cursor() as cursor:
        cursor.execute(sql, params)


def fetch(sql: str, params: Params = None, alias: str | None = None) -> list[Any]:
    """Return the rows of a statement; else as ``run``."""
    with connections[alias or database()].cursor() as cursor:
        cursor.execute(sql, params)
        return list(cursor.fetchall())
