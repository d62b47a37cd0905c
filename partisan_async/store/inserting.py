"""Inserts calls, and reads the waiting *twins* of those that are turned away.

A twin is the row of an identical call: one with the same digest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import DateTimeField

from partisan_async.claim import Call
from partisan_async.models import Task
from partisan_async.models.readable import moment
from partisan_async.models.status import WAITING_SQL, Status
from partisan_async.store.statement import Statement


def lock_of(key: str) -> str:
    """Return the SQL of the number of the advisory lock that stands for a digest, or a key."""
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

_INSERT = f"""
INSERT INTO partisan_async_task
    (queue_name, processor_class, arguments, priority, digest, traceparent, execute_after, status)
SELECT %(queue_name)s, %(processor_class)s, %(arguments)s::jsonb, %(priority)s, %(digest)s::bytea,
    %(traceparent)s, COALESCE(%(execute_after)s::timestamptz, statement_timestamp()),
    CASE WHEN %(execute_after)s::timestamptz > statement_timestamp()
        THEN '{Status.SCHEDULED}' ELSE '{Status.NEW}' END
WHERE %(key)s::bigint IS NULL OR pg_try_advisory_xact_lock(%(key)s::bigint)
"""
_INSERTED = "RETURNING id, status, created_at, NULLIF(execute_after, created_at)"

# No conflict target: inferring the partial index costs 10% of the insert. A conflict on another
# index reappears in the insert without a digest, which raises.
_INSERT_UNIQUE = f"{_INSERT}ON CONFLICT DO NOTHING {_INSERTED}"
_INSERT_ANY = _INSERT + _INSERTED

# FOR SHARE keeps the twin from being claimed before the caller commits: it would run on the state
# from before the caller's changes, and the call that was to announce them was ignored. One that
# somebody has locked is being claimed, or steered in a transaction that is open.
_TWIN = f"""
SELECT {COLUMNS_READABLE} FROM partisan_async_task
WHERE digest = %(digest)s AND status IN {WAITING_SQL} FOR SHARE SKIP LOCKED
"""  # noqa: S608

# The ids are given out in the order of the calls, since it is they that decide which starts first;
# the rows are inserted in the order of the digests. Where these are too many to be taken, two
# callers in opposite orders would deadlock. (They still may, where a twin was claimed before the
# look at it, and is inserted after all while digests above it are held.) The arguments come as
# lines and the digests in one piece: to quote each for an array takes as long as all else that the
# client does. The sequence is found by a query of its own, once and not for each row.
CALLS = """
call AS MATERIALIZED (
    SELECT n, COALESCE(given, nextval(
            (SELECT pg_get_serial_sequence('partisan_async_task', 'id')::regclass))) AS id,
        arguments, digest
    FROM (SELECT *, substring(%(digests)s::bytea FROM 32 * n::int - 31 FOR 32) AS digest
          FROM unnest(%(ids)s::bigint[], string_to_array(%(arguments)s, chr(10)))
            WITH ORDINALITY AS u (given, arguments, n) ORDER BY n) AS u)
"""
_BULK_INSERT = f"""
WITH {CALLS},
inserted AS (
    INSERT INTO partisan_async_task
        (id, queue_name, processor_class, arguments, priority, digest, traceparent, execute_after,
        status)
    SELECT id, %(queue_name)s, %(processor_class)s, arguments::jsonb, %(priority)s, digest,
        %(traceparent)s, due.at,
        CASE WHEN due.at > statement_timestamp()
            THEN '{Status.SCHEDULED}' ELSE '{Status.NEW}' END
    FROM call,
        (SELECT COALESCE(%(execute_after)s::timestamptz, statement_timestamp()) AS at) AS due
    WHERE NOT %(takes)s OR pg_try_advisory_xact_lock({lock_of("digest")})
    ORDER BY digest, id
    ON CONFLICT (digest) WHERE status IN {WAITING_SQL} DO NOTHING
    RETURNING id, status, created_at, execute_after)
SELECT (SELECT array_agg(id) FROM call), array_agg(id), min(status), min(created_at),
    NULLIF(min(execute_after), min(created_at))
FROM inserted
"""  # noqa: S608

# As one text, and so they are sent back: psycopg makes an object of each value on its way.
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
    """Insert a call; one with a digest if no twin waits. Rows: what the caller does not know of it.

    :param key: number of the advisory lock to take first; without the lock nothing is inserted.
    """
    sql = _INSERT_ANY if call.digest is None else _INSERT_UNIQUE
    return Statement(sql, call._asdict() | {"key": key})


def twin(digest: bytes) -> Statement:
    """Read the row that waits with this digest, and keep it from being claimed."""
    return Statement(_TWIN, {"digest": digest})


def bulk_insert(
    common: Call, ids: str, encoded: Sequence[str], digests: Sequence[bytes] | None, *, takes: bool
) -> Statement:
    """Insert calls that differ in their arguments alone, but for those whose twins wait.

    Row: the calls' ids in the order of the calls; the ids of those that were inserted; and of these
    what ``insert`` returns.

    :param ids: an array of an id for each, or of NULLs.
    :param takes: take their digests, and leave out those that another transaction took.
    """
    return Statement(_BULK_INSERT, bulk_params(common, ids, encoded, digests, takes=takes))


def bulk_params(
    common: Call, ids: str, encoded: Sequence[str], digests: Sequence[bytes] | None, *, takes: bool
) -> dict[str, Any]:
    """Return the parameters of a statement with ``CALLS``."""
    return common._asdict() | {
        "ids": ids,
        "arguments": "\n".join(encoded),
        "digests": None if digests is None else b"".join(digests),
        "takes": takes,
    }


def next_ids(count: int) -> Statement:
    """Draw the ids of tasks to come. Row: them, with commas."""
    return Statement(_NEXT_IDS, {"count": count})


def twins(digests: Sequence[bytes]) -> Statement:
    """Read the rows that wait with these digests, and keep them from being claimed."""
    return Statement(_TWINS, {"digests": digests})
