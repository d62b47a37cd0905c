"""Tells in one line what an error says: for log lines and for people."""

from __future__ import annotations

import psycopg
from django.db import Error


def explain(error: BaseException) -> str:
    """Return what an error says, in one line.

    Of what PostgreSQL says, the message without its detail: that may hold a row's arguments.
    """
    theirs = error.__cause__ if isinstance(error, Error) else error
    said = theirs.diag.message_primary if isinstance(theirs, psycopg.Error) else None
    return " ".join((said or str(error)).split()) or "no answer"
