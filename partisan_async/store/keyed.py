"""Inserts calls whose twins may run, be replaced or come sooner, or that have a window.

A *key* is in one of two columns: a ``digest`` is for rows that wait, a ``unique_key`` also for rows
that run. A *twin* is a row with the same key that is what its column is for. A *window* is a row of
its own: until its time no call with its key is inserted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from partisan_async.claim import Call
from partisan_async.models.status import WAITING_SQL, Status
from partisan_async.store.bulk import CALLS, LIMIT_OF_ALL, bulk_params, insert_of
from partisan_async.store.inserting import COLUMNS_READABLE, TO_TWINS, lock_of
from partisan_async.store.parking import is_parked
from partisan_async.store.statement import Statement, array_of_texts, waiting

IS_TWIN = {
    "digest": f"status IN {WAITING_SQL}",
    "unique_key": "unique_key IS NOT NULL AND finished_at IS NULL",
}
"""By the column of the key: the condition of rows that count as twins."""

TARGETS = {"digest": TO_TWINS, "unique_key": f"(unique_key) WHERE {IS_TWIN['unique_key']}"}
"""By the column of the key: the target of ``ON CONFLICT``."""

# A window that is open is seen by the upsert, whose condition is checked on the newest version of
# its row, and not by the statement's snapshot, which may be older than the lock that was just
# taken. A window that began for a call with a twin that only the index saw is in the last column:
# it is to be closed again. Calls with one key are of one subject.
_OPENED = """
opened AS (
    INSERT INTO partisan_async_uniquewindow AS w (key, until, task_id{subject})
    SELECT digest, statement_timestamp() + %(within)s, id{subject} FROM free
    ORDER BY digest
    ON CONFLICT (key) DO UPDATE SET until = excluded.until, task_id = excluded.task_id
    WHERE w.until <= statement_timestamp()
    RETURNING key, task_id),
"""

# As many calls are inserted, see there. A twin that is known is looked for first, by the snapshot:
# the index would have a caller wait for whoever changes that row, such as an ATOMIC run that ends.
_FREE = """
free AS MATERIALIZED (
    SELECT * FROM call
    WHERE NOT EXISTS (SELECT 1 FROM partisan_async_task t
                      WHERE t.{column} = call.digest AND {is_twin})
        AND (NOT %(takes)s OR pg_try_advisory_xact_lock({lock}))),
"""

_IN_VAIN = """,
    (SELECT array_agg(task_id) FROM opened WHERE task_id NOT IN (SELECT id FROM inserted))"""


def _insert(column: str, *, opens: bool, owned: bool, limited: bool) -> str:
    free = _FREE.format(column=column, is_twin=IS_TWIN[column], lock=lock_of("digest"))
    opened = _OPENED.format(subject=", subject" if owned else "") if opens else ""
    before = ["WITH ", CALLS[owned, limited], ",", free, opened]
    return "".join(before) + insert_of(
        "free",
        where="WHERE digest IN (SELECT key FROM opened)" if opens else "",
        column=column,
        target=TARGETS[column],
        owned=owned,
        limit=LIMIT_OF_ALL if limited else "",
        more=_IN_VAIN if opens else ", NULL",
    )


_INSERTS = {
    (column, opens, owned, limited): _insert(column, opens=opens, owned=owned, limited=limited)
    for column in TARGETS
    for opens in (False, True)
    for owned in (False, True)
    for limited in (False, True)
}

# Nobody waits for a row that another transaction has locked, see ``inserting``; and one that runs
# is not locked at all: its settle would have to wait.
_RUNNING = f"""
SELECT {COLUMNS_READABLE} FROM partisan_async_task
WHERE {{column}} = ANY(%(keys)s) AND {{is_twin}} AND status = '{Status.IN_PROCESS}'
"""  # noqa: S608

_WAITING = f"{{column}} = ANY(%(keys)s) AND {{is_twin}} AND status IN {WAITING_SQL}"

_FIND = f"""
WITH waiting AS (
    SELECT * FROM partisan_async_task WHERE {_WAITING} FOR SHARE SKIP LOCKED)
SELECT {COLUMNS_READABLE} FROM waiting
"""  # noqa: S608

_DUE = "due AS (SELECT COALESCE(%(execute_after)s::timestamptz, statement_timestamp()) AS at)"

_STATUS = f"""
CASE WHEN {{at}} > statement_timestamp() THEN '{Status.SCHEDULED}' ELSE {{waits}} END
"""

# The twin waits as its call does. Its limit may be another one than the new call's, or none, or
# the other way round: the code may have changed in between.
_AS_GIVEN = f"""
CASE WHEN %(limit_name)s::text IS NOT NULL THEN '{Status.LIMITED}' ELSE '{Status.NEW}' END
"""

_TICK = """
jsonb_strip_nulls(jsonb_build_object(
    'tick', t.arguments -> 'tick', 'schedule', t.arguments -> 'schedule'))
"""

# It becomes what an insert would have made of it, but for its id, its age and its tick: counts and
# errors are those of a call that will not run, but a schedule that enqueued it counts on its end.
_REPLACE = f"""
WITH {_DUE},
given AS (SELECT * FROM unnest(%(keys)s::bytea[], %(arguments)s::text[], %(limit_keys)s::text[])
          AS g (key, arguments, limit_key)),
free AS MATERIALIZED (
    SELECT id, {{column}} AS key FROM partisan_async_task
    WHERE {_WAITING} FOR NO KEY UPDATE SKIP LOCKED),
changed AS (
    UPDATE partisan_async_task t
    SET queue_name = %(queue_name)s, processor_class = %(processor_class)s,
        arguments = given.arguments::jsonb || {_TICK}, priority = %(priority)s,
        traceparent = %(traceparent)s, execute_after = due.at,
        status = {_STATUS.format(at="due.at", waits=_AS_GIVEN)}, parked_from = NULL,
        limit_name = %(limit_name)s, limit_key = given.limit_key, limit_rank = %(limit_rank)s,
        tries = 0, postpones = 0, lost = 0, suspect = false, unrecognised = 0, interrupted = 0,
        started_at = NULL, last_attempted_at = NULL, first_tried_at = NULL,
        stops = NULL, stopped_at = NULL, worker_ids = '[]', errors = '[]', result = NULL
    FROM free JOIN given USING (key), due
    WHERE t.id = ANY (ARRAY[free.id]) RETURNING t.*)
SELECT {COLUMNS_READABLE} FROM changed
"""  # noqa: S608

_OWN = f"CASE WHEN {is_parked('t')} THEN t.parked_from ELSE t.execute_after END"
_SOON = f"{_OWN} <= due.at AND t.priority <= %(priority)s"

# Twins that need not change are shared by those who find them, as above.
_SOONER = f"""
WITH {_DUE},
soon AS (
    SELECT t.* FROM partisan_async_task t, due
    WHERE {_WAITING} AND {_SOON} FOR SHARE OF t SKIP LOCKED),
late AS MATERIALIZED (
    SELECT t.id, LEAST({_OWN}, due.at) AS at FROM partisan_async_task t, due
    WHERE {_WAITING} AND NOT ({_SOON}) FOR NO KEY UPDATE OF t SKIP LOCKED),
changed AS (
    UPDATE partisan_async_task t
    SET execute_after = late.at, priority = LEAST(t.priority, %(priority)s), parked_from = NULL,
        limit_rank = CASE WHEN t.limit_name IS NOT NULL
            THEN LEAST(t.limit_rank, %(limit_rank)s) END,
        status = CASE WHEN t.status <> '{Status.SCHEDULED}' THEN t.status
            ELSE {_STATUS.format(at="late.at", waits=waiting("t"))} END
    FROM late WHERE t.id = ANY (ARRAY[late.id]) RETURNING t.*)
SELECT {COLUMNS_READABLE} FROM soon UNION ALL SELECT {COLUMNS_READABLE} FROM changed
"""  # noqa: S608


def _twins(sql: str) -> dict[str, str]:
    return {
        "digest": sql.format(column="digest", is_twin=IS_TWIN["digest"]),
        "unique_key": f"{sql} UNION ALL {_RUNNING}".format(
            column="unique_key", is_twin=IS_TWIN["unique_key"]
        ),
    }


_ON_TWIN = {"ignore": _twins(_FIND), "replace": _twins(_REPLACE), "sooner": _twins(_SOONER)}

_WINDOWS = """
SELECT key, task_id, LEAST(until - %(within)s, statement_timestamp())
FROM partisan_async_uniquewindow
WHERE key = ANY(%(keys)s) AND until > statement_timestamp()
"""

# What was opened by the statement before, and not what another has opened since.
_CLOSE = """
DELETE FROM partisan_async_uniquewindow WHERE key = ANY(%(keys)s) AND task_id = ANY(%(task_ids)s)
"""


def insert_keyed(
    common: Call,
    ids: str,
    encoded: Sequence[str],
    keys: Sequence[bytes],
    subjects: Sequence[str | None] | None,
    limit_keys: Sequence[str | None] | None,
    *,
    takes: bool,
) -> Statement:
    """Insert calls of different keys, but for those with a twin, or whose window is open.

    Row: as of ``insert_bulk``; and the ids that windows have which began in vain.

    :param takes: take their keys, and leave out those that another transaction took.
    """
    params = bulk_params(common, ids, encoded, keys, subjects, limit_keys, takes=takes)
    params |= {"within": _within(common)}
    opens = params["within"] is not None
    which = column_of(common), opens, subjects is not None, limit_keys is not None
    return Statement(_INSERTS[which], params)


def meet_twins(
    common: Call, encoded: Mapping[bytes, str], limit_keys: Sequence[str | None] | None
) -> Statement:
    """Do to the twins that wait what these calls do to them. Rows: these, and the twins that run.

    The waiting ones are kept from being claimed; those that others have locked are left out.

    :param encoded: the arguments of each, by its key.
    :param limit_keys: the key of each under their limit, likewise; ``None``: they start under none.
    """
    assert common.unique is not None
    params = common._asdict() | {
        "keys": list(encoded),
        "arguments": list(encoded.values()),
        "limit_keys": None if limit_keys is None else array_of_texts(limit_keys),
    }
    return Statement(_ON_TWIN[common.unique.on_twin][column_of(common)], params)


def column_of(call: Call) -> str:
    """Return the column that a call's key goes to."""
    return "digest" if call.unique_key is None else "unique_key"


def windows(common: Call, keys: Sequence[bytes]) -> Statement:
    """Read the windows of these keys that are open. Rows: key, the id of the task, since when."""
    return Statement(_WINDOWS, {"keys": list(keys), "within": _within(common)})


def close_windows(keys: Sequence[bytes], task_ids: Sequence[int]) -> Statement:
    """Remove windows of these keys that began with these tasks."""
    return Statement(_CLOSE, {"keys": list(keys), "task_ids": list(task_ids)})


def _within(common: Call) -> timedelta | None:
    assert common.unique is not None
    seconds = common.unique.within_seconds
    return None if seconds is None else timedelta(seconds=seconds)
