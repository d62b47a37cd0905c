"""Makes statements use the test's clock, which ``time_machine`` and ``freezegun`` move."""

from __future__ import annotations

from datetime import datetime

from partisan_async.store import Statement


def as_of(statement: Statement, moment: datetime) -> Statement:
    """Return the statement with this moment in place of the database's time."""
    sql = statement.sql.replace("statement_timestamp()", "%(moment)s::timestamptz")
    return Statement(sql, statement.params | {"moment": moment})
