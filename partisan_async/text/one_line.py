"""Tells in one line what an error says: for log lines and for people."""

from __future__ import annotations

import psycopg


def explain(error: BaseException) -> str:
    """Return what an error says, in one line."""
    return " ".join(str(error).split()) or "no answer"


def primary(error: BaseException) -> str:
    """Return what an error says, without PostgreSQL's detail: that may hold a row's arguments."""
    said = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return " ".join((said or str(error)).split()) or "no answer"
