"""Inserts one call, and reads the waiting *twin* of a call that is not inserted.

A twin is the row of an identical call: a row with the same digest.
"""

from __future__ import annotations

from django.db.models import DateTimeField

from partisan_async.claim import Call
from partisan_async.models import Task
from partisan_async.models.readable import moment
from partisan_async.models.status import WAITING_SQL, Status
from partisan_async.store.statement import Statement


def lock_of(key: str) -> str:
    """Return SQL of the number of the advisory lock that stands for the digest or key."""
    return f"('x' || encode(substring({key} FOR 8), 'hex'))::bit(64)::bigint"


COLUMNS = Task._meta.concrete_fields  # noqa: SLF001  documented API in spite of its name

COLUMNS_READABLE = ", ".join(
    f"{moment(field.attname)} AS {field.attname}"
    if isinstance(field, DateTimeField)
    else field.attname
    for field in COLUMNS
)

LIMIT_COLUMNS = "limit_name, limit_key, limit_rank,"
"""The columns of a call that starts under a limit."""

# A call that is nobody's does not name the column, nor one without a limit those.
_INSERT = f"""
INSERT INTO partisan_async_task
    (queue_name, processor_class, arguments, priority, digest, traceparent, {{columns}}
    execute_after, status)
SELECT %(queue_name)s, %(processor_class)s, %(arguments)s::jsonb, %(priority)s, %(digest)s::bytea,
    %(traceparent)s, {{values}} COALESCE(%(execute_after)s::timestamptz, statement_timestamp()),
    CASE WHEN %(execute_after)s::timestamptz > statement_timestamp()
        THEN '{Status.SCHEDULED}' ELSE '{{waits}}' END
WHERE %(key)s::bigint IS NULL OR pg_try_advisory_xact_lock(%(key)s::bigint)
"""
_INSERTED = "RETURNING id, status, created_at, NULLIF(execute_after, created_at)"

# No conflict target: inferring the partial index costs 10% of the insert. A conflict on another
# index reappears in the insert without a digest, which raises.


def _insert(*, owned: bool, limited: bool, unique: bool) -> str:
    columns = ("subject," if owned else "") + (LIMIT_COLUMNS if limited else "")
    values = "%(subject)s," if owned else ""
    if limited:
        values += "%(limit_name)s, %(limit_key)s, %(limit_rank)s,"
    waits = Status.LIMITED if limited else Status.NEW
    insert = _INSERT.format(columns=columns, values=values, waits=waits)
    return insert + ("ON CONFLICT DO NOTHING " if unique else "") + _INSERTED


_INSERTS = {
    (owned, limited, unique): _insert(owned=owned, limited=limited, unique=unique)
    for owned in (False, True)
    for limited in (False, True)
    for unique in (False, True)
}

# FOR SHARE keeps the twin from being claimed before the caller commits. Otherwise the twin could
# run without the caller's changes, and no task would follow that sees them, as this call is
# ignored. SKIP LOCKED: a locked twin is being claimed, or steered in an open transaction.
_TWIN = f"""
SELECT {COLUMNS_READABLE} FROM partisan_async_task
WHERE digest = %(digest)s AND status IN {WAITING_SQL} FOR SHARE SKIP LOCKED
"""  # noqa: S608

TO_TWINS = f"(digest) WHERE digest IS NOT NULL AND status IN {WAITING_SQL}"
"""The target of ``ON CONFLICT``. It asks for more than the index that it means, as the index of a
later release will."""


def insert(call: Call, key: int | None) -> Statement:
    """Insert a call, unless a twin waits. Rows: id, status, created_at, execute_after if differing.

    :param key: number of the advisory lock to take first; without the lock nothing is inserted.
    """
    sql = _INSERTS[call.subject is not None, call.limit_name is not None, call.digest is not None]
    return Statement(sql, call._asdict() | {"key": key})


def twin(digest: bytes) -> Statement:
    """Read the waiting row with this digest, and keep it from being claimed."""
    return Statement(_TWIN, {"digest": digest})
