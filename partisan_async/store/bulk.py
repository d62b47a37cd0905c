"""Inserts many calls by one statement, and reads the waiting twins of those not inserted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from partisan_async.claim import Call
from partisan_async.models.status import WAITING_SQL, Status
from partisan_async.store.inserting import COLUMNS_READABLE, LIMIT_COLUMNS, TO_TWINS, lock_of
from partisan_async.store.statement import Statement, array_of_texts

INSERTED_AT_ONCE = 1000
"""Maximum number of calls that one statement inserts."""

# Ids are drawn in the order of the calls, since lower ids start first. Rows are inserted in the
# order of the digests: otherwise two callers in opposite orders deadlock, if their digests are too
# many to be taken. (A call may come late all the same: see ``enqueue.late``.) The arguments come as
# lines and the digests as one value: quoting each for an array would double the client's work. The
# sequence is looked up in a subquery, which runs once and not for each row.
_CALLS = """
call AS MATERIALIZED (
    SELECT n, COALESCE(given, nextval(
            (SELECT pg_get_serial_sequence('partisan_async_task', 'id')::regclass))) AS id,
        arguments, {names} digest
    FROM (SELECT *, substring(%(digests)s::bytea FROM 32 * n::int - 31 FOR 32) AS digest
          FROM unnest(%(ids)s::bigint[], string_to_array(%(arguments)s, chr(10)){values})
            WITH ORDINALITY AS u (given, arguments, {names} n) ORDER BY n) AS u)
"""


def with_more(calls: str, *, owned: bool, limited: bool) -> str:
    """Return SQL of calls that have subjects, or keys under limits, each of its own.

    :param calls: the SQL, with places for ``names`` and ``values``.
    """
    names = ("subject," if owned else "") + ("limit_key," if limited else "")
    values = ", %(subjects)s::text[]" if owned else ""
    values += ", %(limit_keys)s::text[]" if limited else ""
    return calls.format(names=names, values=values)


CALLS = {
    (owned, limited): with_more(_CALLS, owned=owned, limited=limited)
    for owned in (False, True)
    for limited in (False, True)
}
"""The calls to insert; where some have subjects, or start under a limit, with these and keys."""

_OF_ALL = "%(queue_name)s, %(processor_class)s, arguments::jsonb, %(priority)s"

LIMIT_OF_ALL = "%(limit_name)s, limit_key, %(limit_rank)s,"
"""Values of ``LIMIT_COLUMNS``, of calls under one limit."""


def insert_of(
    calls: str,
    *,
    where: str,
    column: str,
    target: str,
    owned: bool,
    limit: str = "",
    waits: str = "",
    more: str = "",
    values: str = _OF_ALL,
) -> str:
    """Return SQL, behind ``CALLS``, that inserts calls and reads what ``insert_bulk`` tells.

    :param calls: the name of what has them.
    :param column: where their digests, or keys, go.
    :param target: of ``ON CONFLICT``.
    :param owned: whether some have subjects.
    :param limit: values of ``LIMIT_COLUMNS``; empty: they start under none.
    :param waits: how one waits that may start; empty: as ``new``, or as ``limited``.
    :param more: further columns of the row that is read.
    :param values: of queue, processor, arguments and priority.
    """
    subject = "subject," if owned else ""
    also = subject + (LIMIT_COLUMNS if limit else "")
    waits = waits or f"'{Status.LIMITED if limit else Status.NEW}'"
    return f"""
inserted AS (
    INSERT INTO partisan_async_task
        (id, queue_name, processor_class, arguments, priority, {column}, traceparent, {also}
        execute_after, status)
    SELECT id, {values}, digest,
        %(traceparent)s, {subject}{limit} due.at,
        CASE WHEN due.at > statement_timestamp()
            THEN '{Status.SCHEDULED}' ELSE {waits} END
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
    (owned, limited): f"WITH {calls},"
    + insert_of(
        "call",
        where=_TAKEN,
        column="digest",
        target=TO_TWINS,
        owned=owned,
        limit=LIMIT_OF_ALL if limited else "",
    )
    for (owned, limited), calls in CALLS.items()
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


def insert_bulk(
    common: Call,
    ids: str,
    encoded: Sequence[str],
    digests: Sequence[bytes] | None,
    subjects: Sequence[str | None] | None = None,
    limit_keys: Sequence[str | None] | None = None,
    *,
    takes: bool,
) -> Statement:
    """Insert calls that differ only in arguments, subject and key under their limit, except those
    whose twins wait.

    One row: the ids of all calls, in their order; the ids of the inserted ones; and for the
    inserted ones the other columns of ``insert``.

    :param ids: PostgreSQL array of an id for each call, or of NULLs.
    :param subjects: whose each is; ``None``: all are nobody's.
    :param limit_keys: the key of each under their limit; ``None``: they start under none.
    :param takes: take the calls' digests, and leave out calls whose digest another transaction has.
    """
    params = bulk_params(common, ids, encoded, digests, subjects, limit_keys, takes=takes)
    return Statement(_BULK_INSERTS[subjects is not None, limit_keys is not None], params)


def bulk_params(
    common: Call,
    ids: str,
    encoded: Sequence[str],
    digests: Sequence[bytes] | None,
    subjects: Sequence[str | None] | None,
    limit_keys: Sequence[str | None] | None,
    *,
    takes: bool,
) -> dict[str, Any]:
    """Return the parameters of a statement with ``CALLS``."""
    return common._asdict() | {
        "ids": ids,
        "arguments": "\n".join(encoded),
        "digests": None if digests is None else b"".join(digests),
        "subjects": None if subjects is None else array_of_texts(subjects),
        "limit_keys": None if limit_keys is None else array_of_texts(limit_keys),
        "takes": takes,
    }


def next_ids(count: int) -> Statement:
    """Draw ids for tasks to insert. One row: the ids, separated by commas."""
    return Statement(_NEXT_IDS, {"count": count})


def twins(digests: Sequence[bytes]) -> Statement:
    """Read the waiting rows with these digests, and keep them from being claimed."""
    return Statement(_TWINS, {"digests": digests})
