"""Makes statements use the test's clock, which ``time_machine`` and ``freezegun`` move."""

from __future__ import annotations

from datetime import datetime

from partisan_async.store import Statement


def as_of(statement: Statement, moment: datetime) -> Statement:
    """Return the statement with this moment in place of the database's time."""
    sql = statement.sql.replace("statement_timestamp()", "%(moment)s::timestamptz")
    return Statement(sql, statement.params | {"moment": moment})


def counted_at(statement: Statement, moment: datetime) -> Statement:
    """Return a claim under limits that counts as of this moment. Leases are the database's."""
    sql = statement.sql.replace("clock_timestamp()", "%(moment)s::timestamptz")
    return Statement(sql, statement.params | {"moment": moment})
