"""Inserts calls, and reads the waiting *twins* of calls that are not inserted.

A twin is the row of an identical call: a row with the same digest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import DateTimeField

from partisan_async.claim import Call
from partisan_async.models import Task
from partisan_async.models.readable import moment
from partisan_async.models.status import WAITING_SQL, Status
from partisan_async.store.statement import Statement, array_of_texts


def lock_of(key: str) -> str:
    """Return SQL of the number of the advisory lock that stands for the digest or key."""
    return f"('x' || encode(substring({key} FOR 8), 'hex'))::bit(64)::bigint"


INSERTED_AT_ONCE = 1000
"""Maximum number of calls that one statement inserts."""

COLUMNS = Task._meta.concrete_fields  # noqa: SLF001  documented API in spite of its name

COLUMNS_READABLE = ", ".join(
    f"{moment(field.attname)} AS {field.attname}"
    if isinstance(field, DateTimeField)
    else field.attname
    for field in COLUMNS
)

# A call that is nobody's does not name the column.
_INSERT = f"""
INSERT INTO partisan_async_task
    (queue_name, processor_class, arguments, priority, digest, traceparent, {{column}}
    execute_after, status)
SELECT %(queue_name)s, %(processor_class)s, %(arguments)s::jsonb, %(priority)s, %(digest)s::bytea,
    %(traceparent)s, {{value}} COALESCE(%(execute_after)s::timestamptz, statement_timestamp()),
    CASE WHEN %(execute_after)s::timestamptz > statement_timestamp()
        THEN '{Status.SCHEDULED}' ELSE '{Status.NEW}' END
WHERE %(key)s::bigint IS NULL OR pg_try_advisory_xact_lock(%(key)s::bigint)
"""
_INSERTED = "RETURNING id, status, created_at, NULLIF(execute_after, created_at)"

# No conflict target: inferring the partial index costs 10% of the insert. A conflict on another
# index reappears in the insert without a digest, which raises.
_INSERTS = {
    (owned, unique): insert + ("ON CONFLICT DO NOTHING " if unique else "") + _INSERTED
    for owned, insert in (
        (False, _INSERT.format(column="", value="")),
        (True, _INSERT.format(column="subject,", value="%(subject)s,")),
    )
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

# Ids are drawn in the order of the calls, since lower ids start first. Rows are inserted in the
# order of the digests: otherwise two callers in opposite orders deadlock, if their digests are too
# many to be taken. (A call may come late all the same: see ``enqueue.late``.) The arguments come as
# lines and the digests as one value: quoting each for an array would double the client's work. The
# sequence is looked up in a subquery, which runs once and not for each row.
_CALLS = """
call AS MATERIALIZED (
    SELECT n, COALESCE(given, nextval(
            (SELECT pg_get_serial_sequence('partisan_async_task', 'id')::regclass))) AS id,
        arguments, {name} digest
    FROM (SELECT *, substring(%(digests)s::bytea FROM 32 * n::int - 31 FOR 32) AS digest
          FROM unnest(%(ids)s::bigint[], string_to_array(%(arguments)s, chr(10)){values})
            WITH ORDINALITY AS u (given, arguments, {name} n) ORDER BY n) AS u)
"""

CALLS = {
    False: _CALLS.format(name="", values=""),
    True: _CALLS.format(name="subject,", values=", %(subjects)s::text[]"),
}
"""The calls to insert; where some have subjects, with these."""

_OF_ALL = "%(queue_name)s, %(processor_class)s, arguments::jsonb, %(priority)s"


def insert_of(
    calls: str,
    *,
    where: str,
    column: str,
    target: str,
    owned: bool,
    more: str = "",
    values: str = _OF_ALL,
) -> str:
    """Return SQL, behind ``CALLS``, that inserts calls and reads what ``bulk_insert`` tells.

    :param calls: the name of what has them.
    :param column: where their digests, or keys, go.
    :param target: of ``ON CONFLICT``.
    :param owned: whether some have subjects.
    :param more: further columns of the row that is read.
    :param values: of queue, processor, arguments and priority.
    """
    subject = "subject," if owned else ""
    return f"""
inserted AS (
    INSERT INTO partisan_async_task
        (id, queue_name, processor_class, arguments, priority, {column}, traceparent, {subject}
        execute_after, status)
    SELECT id, {values}, digest,
        %(traceparent)s, {subject} due.at,
        CASE WHEN due.at > statement_timestamp()
            THEN '{Status.SCHEDULED}' ELSE '{Status.NEW}' END
    FROM {calls},
        (SELECT COALESCE(%(execute_after)s::timestamptz, statement_timestamp()) AS at) AS due
    {where}
    ORDER BY digest, id
    ON CONFLICT {target} DO NOTHING
    RETURNING id, status, created_at, execute_after)
SELECT (SELECT array_agg(id) FROM call), array_agg(id), min(status), min(created_at),
    NULLIF(min(execute_after), min(created_at)){more}
FROM inserted
"""  # noqa: S608


_TAKEN = f"WHERE NOT %(takes)s OR pg_try_advisory_xact_lock({lock_of('digest')})"

_BULK_INSERTS = {
    owned: f"WITH {calls},"
    + insert_of("call", where=_TAKEN, column="digest", target=TO_TWINS, owned=owned)
    for owned, calls in CALLS.items()
}

# One text, which is sent back as it is: psycopg would make an object of each value of an array.
_NEXT_IDS = """
SELECT string_agg(nextval(
    (SELECT pg_get_serial_sequence('partisan_async_task', 'id')::regclass))::text, ',')
FROM generate_series(1, %(count)s)
"""

_TWINS = f"""
SELECT {COLUMNS_READABLE} FROM partisan_async_task
WHERE digest = ANY(%(digests)s) AND status IN {WAITING_SQL} ORDER BY digest
FOR SHARE SKIP LOCKED
"""  # noqa: S608


def insert(call: Call, key: int | None) -> Statement:
    """Insert a call, unless a twin waits. Rows: id, status, created_at, execute_after if differing.

    :param key: number of the advisory lock to take first; without the lock nothing is inserted.
    """
    sql = _INSERTS[call.subject is not None, call.digest is not None]
    return Statement(sql, call._asdict() | {"key": key})


def twin(digest: bytes) -> Statement:
    """Read the waiting row with this digest, and keep it from being claimed."""
    return Statement(_TWIN, {"digest": digest})


def bulk_insert(
    common: Call,
    ids: str,
    encoded: Sequence[str],
    digests: Sequence[bytes] | None,
    subjects: Sequence[str | None] | None = None,
    *,
    takes: bool,
) -> Statement:
    """Insert calls that differ only in arguments and subject, except those whose twins wait.

    One row: the ids of all calls, in their order; the ids of the inserted ones; and for the
    inserted ones the other columns of ``insert``.

    :param ids: PostgreSQL array of an id for each call, or of NULLs.
    :param subjects: whose each is; ``None``: all are nobody's.
    :param takes: take the calls' digests, and leave out calls whose digest another transaction has.
    """
    params = bulk_params(common, ids, encoded, digests, subjects, takes=takes)
    return Statement(_BULK_INSERTS[subjects is not None], params)


def bulk_params(
    common: Call,
    ids: str,
    encoded: Sequence[str],
    digests: Sequence[bytes] | None,
    subjects: Sequence[str | None] | None,
    *,
    takes: bool,
) -> dict[str, Any]:
    """Return the parameters of a statement with ``CALLS``."""
    return common._asdict() | {
        "ids": ids,
        "arguments": "\n".join(encoded),
        "digests": None if digests is None else b"".join(digests),
        "subjects": None if subjects is None else array_of_texts(subjects),
        "takes": takes,
    }


def next_ids(count: int) -> Statement:
    """Draw ids for tasks to insert. One row: the ids, separated by commas."""
    return Statement(_NEXT_IDS, {"count": count})


def twins(digests: Sequence[bytes]) -> Statement:
    """Read the waiting rows with these digests, and keep them from being claimed."""
    return Statement(_TWINS, {"digests": digests})
