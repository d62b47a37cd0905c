"""Deletes rows that count until a time, which is over."""

from __future__ import annotations

from partisan_async.store.statement import Statement

OVER_AT_ONCE = 1000
"""Maximum number of rows that one statement deletes."""

WINDOWS = "uniquewindow"
STARTS = "limitstart"
PAUSES = "limitpause"

_KEYS = {WINDOWS: "key", STARTS: "id", PAUSES: "id"}
"""The primary key of each table."""


def prune_over(table: str) -> Statement:
    """Delete rows of a table, ``WINDOWS`` or another of these. Rows: one for each."""
    key = _KEYS[table]
    sql = f"""
    DELETE FROM partisan_async_{table} WHERE {key} = ANY (ARRAY(
        SELECT {key} FROM partisan_async_{table} WHERE until <= statement_timestamp()
        ORDER BY until LIMIT {OVER_AT_ONCE} FOR UPDATE SKIP LOCKED))
    RETURNING 1
    """  # noqa: S608
    return Statement(sql, {})
