"""Tells in one line what an error says: for log lines and for people."""

from __future__ import annotations

import psycopg


def explain(error: BaseException) -> str:
    """Return what an error says, in one line."""
    return _joined(str(error))


def primary(error: BaseException) -> str:
    """Return what an error says, without PostgreSQL's detail: that may hold a row's arguments."""
    said = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return _joined(said or str(error))


def _joined(said: str) -> str:
    return " ".join(said.split()) or "no answer"
