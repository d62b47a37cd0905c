"""Every statement that changes a row of the package's. Nothing else writes to its tables.

Statements come as SQL and parameters, for whoever holds the connection: ``enqueue`` runs on
Django's, in the caller's transaction; the supervisor runs the others on its own. No decision is
made here.

Words: a *claim* is one taking of a row by one supervisor, named by ``(id, claim_seq)``; to *settle*
is to write what became of it; a *fence* is the condition that only its holder's settle meets.

All clocks are the database's. ``statement_timestamp()`` and not ``now()``, which stands still while
a transaction lasts, and not ``clock_timestamp()``, which no index condition can use.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any, NamedTuple, assert_never
from uuid import UUID
from weakref import WeakKeyDictionary

from django.db import connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.base import ModelState

from partisan_async import arguments, one_message, trace
from partisan_async.models import ENDED, Task
from partisan_async.policy import (
    Counters,
    Decision,
    Deferred,
    Failed,
    Failure,
    Finished,
    GivenBack,
    Postponed,
    Retried,
    Suspected,
)

HISTORY = ("created_at", "started_at", "worker_ids", "errors")
"""What runs of Django's own tasks are told besides: it is in what they pass to users."""

KEPT_PER_ROW = 10
"""So many of the newest errors and worker ids stay on a row."""

PROMOTED_AT_ONCE = 1000
"""So many due rows are made ready by one statement."""

INSERTED_AT_ONCE = 1000
"""So many calls are inserted by one statement."""

LOCK_PATIENCE_MILLISECONDS = 100
"""So long a settle waits for a row, or a digest, that another transaction has locked."""


_COLUMN_NAMES = [field.attname for field in Task._meta.concrete_fields]  # noqa: SLF001


class Statement(NamedTuple):
    """SQL with named parameters."""

    sql: str
    params: dict[str, Any]


class Call(NamedTuple):
    """A task to be: checked and encoded.

    :param traceparent: the span that enqueues it; no part of what makes calls identical.
    """

    queue_name: str
    processor_class: str
    arguments: str
    priority: int
    execute_after: datetime.datetime | None
    digest: bytes | None
    traceparent: str | None = None


class Claim(NamedTuple):
    """A claimed row, in the order of the claim's RETURNING.

    :param waited_seconds: how long it was due when it was claimed.
    :param history: JSON of ``HISTORY``, where the row is one of Django's own tasks.
    """

    id: int
    claim_seq: int
    queue_name: str
    processor_class: str
    arguments: str
    priority: int
    tries: int
    postpones: int
    lost: int
    suspect: bool
    unrecognised: int
    waited_seconds: float
    history: str | None = None
    traceparent: str | None = None

    @property
    def alone(self) -> bool:
        """Whether it has to run with nothing beside it: it may take its worker down."""
        return self.suspect or self.lost > 0

    @property
    def counters(self) -> Counters:
        """What the row counted before this run."""
        return Counters(self.tries, self.postpones, self.lost, self.unrecognised)


class Settlement(NamedTuple):
    """What became of a claim.

    :param ran: seconds ago when the run started, and the worker's id; ``None`` if it never did.
    :param stores_result: the row is kept when it has ended, and whoever waits for that is told.
    """

    claim: Claim
    decision: Decision
    ran: tuple[float, str] | None
    stores_result: bool = False


# Enqueue


def database() -> str:
    """Return the alias of the database that holds the tasks."""
    return router.db_for_write(Task)


def enqueue(call: Call) -> Task:
    """Insert a call, and return its row or its waiting twin's; wake supervisors afterwards."""
    alias = database()
    with trace.enqueuing(call.queue_name, call.processor_class) as span:
        if span is not None:
            call = call._replace(traceparent=trace.traceparent())
        task, is_told = _insert(call, alias)
        trace.told_id(span, task.pk)
    if not is_told:
        wake(call.queue_name, task.status, alias)
    return task


def bulk_enqueue(common: Call, encoded: Sequence[str]) -> list[Task]:
    """Insert calls, all or none, and return their rows in this order; else as ``enqueue``.

    :param common: the first of them; they differ in their arguments alone.
    :param encoded: the arguments of each.
    """
    alias = database()
    with (
        trace.enqueuing(common.queue_name, common.processor_class, len(encoded)) as span,
        transaction.atomic(using=alias, savepoint=False),
    ):
        if span is not None:
            common = common._replace(traceparent=trace.traceparent())
        tasks = _bulk_insert(common, encoded, alias)
        for status in {task.status for task in tasks}:
            wake(common.queue_name, status, alias)
    return tasks


# The index of a conflict is not named: to find it by its predicate takes the server a tenth of all.
# What else may be in conflict is met once more by the insert without a digest.
_INSERT = """
INSERT INTO partisan_async_task
    (queue_name, processor_class, arguments, priority, digest, traceparent, execute_after, status)
VALUES (%(queue_name)s, %(processor_class)s, %(arguments)s::jsonb, %(priority)s, %(digest)s,
    %(traceparent)s, COALESCE(%(execute_after)s::timestamptz, statement_timestamp()),
    CASE WHEN %(execute_after)s::timestamptz > statement_timestamp()
        THEN 'scheduled' ELSE 'new' END)
"""
_UNLESS_IT_WAITS = "ON CONFLICT DO NOTHING "
_INSERTED = "RETURNING id, status, created_at, NULLIF(execute_after, created_at)"

# FOR SHARE keeps the twin from being claimed before the caller commits: it would run on the state
# from before the caller's changes, and the call that was to announce them was ignored.
_TWIN = """
SELECT * FROM partisan_async_task
WHERE digest = %(digest)s AND status IN ('new', 'scheduled') FOR SHARE
"""


def _insert(call: Call, alias: str) -> tuple[Task, bool]:
    """Return the row or the waiting twin's, and whether supervisors were told of it."""
    for _ in range(3 if call.digest else 0):
        rows, is_told = _fetch_inserted(_INSERT + _UNLESS_IT_WAITS + _INSERTED, call, alias)
        for row in rows:
            return _made(alias, call, *row), is_told
        # A twin waits. It may be claimed before the look, or ended in a transaction that is open
        # yet; then the insert is tried again.
        for task in Task.objects.using(alias).raw(_TWIN, {"digest": call.digest}):
            task.is_twin = True
            return task, is_told and task.status == Task.STATUS_NEW
    # Nothing to be unlike; or twins come and go faster than they can be seen, and then a duplicate
    # beats an error.
    call = call._replace(digest=None)
    (row,), is_told = _fetch_inserted(_INSERT + _INSERTED, call, alias)
    return _made(alias, call, *row), is_told


def _fetch_inserted(sql: str, call: Call, alias: str) -> tuple[list[Any], bool]:
    params = call._asdict()
    if call.execute_after is None:
        told = notify(call.queue_name, Task.STATUS_NEW).sql
        rows = one_message.fetch(connections[alias], sql, params, told)
        if rows is not None:
            return rows, True
    return _fetch(sql, params, alias), False


def _made(alias: str, call: Call, pk: int, *told: Any) -> Task:
    return _Rows(alias, call, *told).of(pk, json.loads(call.arguments), call.digest)


# The ids are given out in the order of the calls, since it is they that decide which starts first;
# the rows are inserted in the order of the digests, since two callers in opposite orders would
# deadlock. The arguments come as lines and the digests in one piece: to quote each for an array
# takes as long as all else that the client does.
_BULK_INSERT = """
WITH call AS MATERIALIZED (
    SELECT n, COALESCE(given, nextval(pg_get_serial_sequence('partisan_async_task', 'id'))) AS id,
        arguments, digest
    FROM (SELECT *, substring(%(digests)s::bytea FROM 32 * n::int - 31 FOR 32) AS digest
          FROM unnest(%(ids)s::bigint[], string_to_array(%(arguments)s, chr(10)))
            WITH ORDINALITY AS u (given, arguments, n) ORDER BY n) AS u),
inserted AS (
    INSERT INTO partisan_async_task
        (id, queue_name, processor_class, arguments, priority, digest, traceparent, execute_after,
        status)
    SELECT id, %(queue_name)s, %(processor_class)s, arguments::jsonb, %(priority)s, digest,
        %(traceparent)s, due.at,
        CASE WHEN due.at > statement_timestamp() THEN 'scheduled' ELSE 'new' END
    FROM call,
        (SELECT COALESCE(%(execute_after)s::timestamptz, statement_timestamp()) AS at) AS due
    ORDER BY digest, id
    ON CONFLICT (digest) WHERE status IN ('new', 'scheduled') DO NOTHING
    RETURNING id, status, created_at, execute_after)
SELECT array_agg(n), array_agg(id), min(status), min(created_at),
    NULLIF(min(execute_after), min(created_at))
FROM inserted JOIN call USING (id)
"""

_NEXT_IDS = """
SELECT nextval(pg_get_serial_sequence('partisan_async_task', 'id'))
FROM generate_series(1, %(count)s)
"""

_TWINS = """
SELECT * FROM partisan_async_task
WHERE digest = ANY(%(digests)s) AND status IN ('new', 'scheduled') ORDER BY digest FOR SHARE
"""


def _bulk_insert(common: Call, encoded: Sequence[str], alias: str) -> list[Task]:
    count = len(encoded)
    digests = arguments.digests(common.processor_class, encoded) if common.digest else None
    ids: Sequence[int | None] = [None] * count
    if count > INSERTED_AT_ONCE:
        # Each statement has its share of the order of the digests, and not of that of the ids.
        ids = sorted(row[0] for row in _fetch(_NEXT_IDS, {"count": count}, alias))
    found: dict[int, Task] = {}
    missing = range(count) if digests is None else sorted(range(count), key=digests.__getitem__)
    for attempt in range(4):
        # As in _insert(), where twins come and go a duplicate beats an error.
        unique = digests if attempt < 3 else None
        for chunk in _chunks(missing):
            found |= _insert_chunk(common, encoded, unique, ids, chunk, alias)
        missing = [n for n in missing if n not in found]
        if not missing:
            break
        assert digests is not None
        # Twins of each other, or of rows that wait.
        twins = {digests[n]: task for n, task in found.items()}
        for chunk in _chunks([n for n in missing if digests[n] not in twins]):
            params = {"digests": [digests[n] for n in chunk]}
            for task in Task.objects.using(alias).raw(_TWINS, params):
                task.is_twin = True
                twins[bytes(task.digest or b"")] = task
        found |= {n: twins[digests[n]] for n in missing if digests[n] in twins}
        missing = [n for n in missing if n not in found]
        if not missing:
            break
    return [found[n] for n in range(count)]


def _insert_chunk(
    common: Call,
    encoded: Sequence[str],
    digests: Sequence[bytes] | None,
    ids: Sequence[int | None],
    chunk: Sequence[int],
    alias: str,
) -> dict[int, Task]:
    """Return the rows of those calls of the chunk that have no twin, by their numbers."""
    params = common._asdict() | {
        "ids": [ids[n] for n in chunk],
        "arguments": "\n".join([encoded[n] for n in chunk]),
        "digests": None if digests is None else b"".join([digests[n] for n in chunk]),
    }
    ((positions, pks, *same),) = _fetch(_BULK_INSERT, params, alias)
    if not positions:
        return {}
    rows = _Rows(alias, common, *same)
    inserted = [chunk[position - 1] for position in positions]
    decoded = json.loads(f"[{','.join([encoded[n] for n in inserted])}]")
    return {
        n: rows.of(pk, call, None if digests is None else digests[n])
        for n, pk, call in zip(inserted, pks, decoded, strict=True)
    }


class _Rows:
    """Makes the rows that calls were inserted as, as they would be read.

    All that the caller knows is not sent back: that takes as long as to insert it.
    """

    def __init__(
        self,
        alias: str,
        common: Call,
        status: str,
        created_at: datetime.datetime,
        execute_after: datetime.datetime | None,
    ) -> None:
        self._fields = dict.fromkeys(_COLUMN_NAMES) | {
            "queue_name": common.queue_name,
            "processor_class": common.processor_class,
            "priority": common.priority,
            "status": status,
            "created_at": created_at,
            "execute_after": execute_after or created_at,
            "traceparent": common.traceparent,
            "suspect": False,
            **dict.fromkeys(("claim_seq", "tries", "postpones", "lost", "unrecognised"), 0),
        }
        self._alias = alias

    def of(self, pk: int, arguments: dict[str, Any], digest: bytes | None) -> Task:
        # As unpickling makes them: Model.__init__() takes as long as all else that is done for one.
        task = Task.__new__(Task)
        state = ModelState()
        state.adding, state.db = False, self._alias
        task.__dict__ |= self._fields
        task.__dict__ |= {
            "_state": state,
            "id": pk,
            "arguments": arguments,
            "digest": digest,
            "worker_ids": [],
            "errors": [],
        }
        return task


def _fetch(sql: str, params: dict[str, Any], alias: str) -> list[Any]:
    with connections[alias].cursor() as cursor:
        cursor.execute(sql, params)
        return list(cursor.fetchall())


def _chunks(numbers: Sequence[int]) -> Iterator[list[int]]:
    """Yield a thousand at a time, each thousand in ascending order."""
    for start in range(0, len(numbers), INSERTED_AT_ONCE):
        yield sorted(numbers[start : start + INSERTED_AT_ONCE])


_notified: WeakKeyDictionary[BaseDatabaseWrapper, set[tuple[str, str]]] = WeakKeyDictionary()


def wake(queue_name: str, status: str, alias: str) -> None:
    """Wake the supervisors of a queue, after the commit: rows of this status are there."""
    # In a transaction NOTIFY takes a lock that all commits of the cluster share, so it goes out in
    # a statement of its own after the commit. Every call registers it anew: one that were left out
    # because an earlier one stands would go mute when that one's savepoint is rolled back. Of those
    # that one commit sets off, the first notifies its queue and the others find that done.
    connection = connections[alias]
    if not connection.in_atomic_block and not connection.get_autocommit():
        with connection.cursor() as cursor:
            cursor.execute(*notify(queue_name, status, within=True))
        return
    _notified.setdefault(connection, set()).clear()

    # No functools.partial: where the NOTIFY fails, Django 5.2 logs the function's __qualname__, and
    # its AttributeError would tell the caller that the commit had failed.
    def notify_once() -> None:
        _notify_once(queue_name, status, alias)

    transaction.on_commit(notify_once, using=alias, robust=True)


def _notify_once(queue_name: str, status: str, alias: str) -> None:
    connection = connections[alias]
    done = _notified.setdefault(connection, set())
    if (queue_name, status) not in done:
        done.add((queue_name, status))
        # Without a cursor of Django's: that takes longer than the server does, and would count
        # among the queries of whoever counts theirs. Two statements cannot be prepared.
        connection.ensure_connection()
        with connection.wrap_database_errors:
            connection.connection.execute(*notify(queue_name, status), prepare=False)


# Wake


def channel(queue_name: str) -> str:
    """Return the NOTIFY channel of a queue: its name, or where that is too long, its hash."""
    name = f"partisan_async.{queue_name}"
    if len(name.encode()) < 64:
        return name
    return f"partisan_async.{hashlib.sha256(queue_name.encode()).hexdigest()[:40]}"


HELD_NO_MORE = "held"
"""Said by NOTIFY: rows that supervisors hold were taken from them by hand."""

STEERED = "steered"
"""Said by NOTIFY: the queue was paused or resumed, a supervisor is to drain, or a schedule was
switched: a look at the rows tells."""


def notify(queue_name: str, status: str = "", *, within: bool = False) -> Statement:
    """Wake the supervisors of a queue: rows of this status are there, or of any.

    :param within: in a transaction that writes, too, and not in one of its own.
    """
    # Its commit would wait for the disk, with a lock that all commits with a NOTIFY share; but
    # after a crash nobody listens any more. pg_notify() takes the server longer: it is planned.
    hurry = "" if within else "SET LOCAL synchronous_commit = off; "
    name = channel(queue_name).replace('"', '""').replace("%", "%%")
    return Statement(f"""{hurry}NOTIFY "{name}", '{status}'""", {})


# Claim

# Between nothing and a month, and so finite: see _DUE_SECONDS.
_WAITED_SECONDS = """
extract(epoch FROM statement_timestamp() - LEAST(statement_timestamp(), GREATEST(
    t.execute_after, t.created_at, statement_timestamp() - interval '30 days')))::float8
"""

_COLUMNS = f"""
t.id, t.claim_seq, t.queue_name, t.processor_class, t.arguments::text, t.priority, t.tries,
    t.postpones, t.lost, t.suspect, t.unrecognised, {_WAITED_SECONDS},
    CASE WHEN strpos(t.processor_class, '.') > 0 THEN jsonb_build_array(
        t.created_at, t.started_at, t.worker_ids, t.errors)::text END,
    t.traceparent
"""

# Alive, and not told to start nothing.
_ALIVE = """
me AS (SELECT 1 FROM partisan_async_supervisor
       WHERE id = %(me)s AND last_seen_at > statement_timestamp() - %(ttl)s
           AND NOT EXISTS (SELECT 1 FROM partisan_async_pausedqueue
                           WHERE queue_name = %(queue_name)s))
"""

# After the largest number it begins again at 1: all that matters is that it is another one, and a
# row whose number was set by hand must not keep the others from being claimed.
_NEXT_SEQ = "claim_seq = mod(t.claim_seq, 2147483647) + 1"

# MATERIALIZED: an inlined subquery may be run again for each row of the join, and LIMIT with it.
# ANY (ARRAY[…]) and not a plain "=": that lets the planner join by hashes, and then each claim
# reads a small table to its end, dead rows too; 20,000 rows cost three times what 250 lookups do.
_CLAIM = f"""
WITH {_ALIVE}, due AS MATERIALIZED (
    SELECT id FROM partisan_async_task
    WHERE status = 'new' AND queue_name = %(queue_name)s AND EXISTS (SELECT 1 FROM me)
    ORDER BY priority, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
UPDATE partisan_async_task t
SET status = 'in_process', claimed_by = %(me)s, claimed_at = statement_timestamp(), {_NEXT_SEQ}
FROM due WHERE t.id = ANY (ARRAY[due.id])
RETURNING {_COLUMNS}
"""  # noqa: S608

# The anti-join also finds the rows whose supervisor's row is gone.
_RESCUE = f"""
WITH {_ALIVE}, orphaned AS MATERIALIZED (
    SELECT t.id FROM partisan_async_task t
    LEFT JOIN partisan_async_supervisor s
        ON s.id = t.claimed_by AND s.last_seen_at > statement_timestamp() - %(ttl)s
    WHERE t.status = 'in_process' AND t.queue_name = %(queue_name)s
        AND t.claimed_by <> %(me)s
        AND (t.claimed_by = ANY(%(dead)s::uuid[]) OR (%(by_clock)s AND s.id IS NULL))
        AND EXISTS (SELECT 1 FROM me)
    ORDER BY t.priority, t.id LIMIT %(limit)s FOR UPDATE OF t SKIP LOCKED)
UPDATE partisan_async_task t
SET claimed_by = %(me)s, claimed_at = statement_timestamp(), {_NEXT_SEQ}
FROM orphaned WHERE t.id = ANY (ARRAY[orphaned.id])
RETURNING {_COLUMNS}
"""  # noqa: S608

# Within a day, and so finite: a difference to 'infinity' is an error before PostgreSQL 17.
_DUE_SECONDS = """
extract(epoch FROM LEAST(GREATEST(execute_after, statement_timestamp() - interval '1 day'),
    statement_timestamp() + interval '1 day') - statement_timestamp())::float8
"""

_HELD = f"""
SELECT {_COLUMNS} FROM partisan_async_task t WHERE status = 'in_process' AND claimed_by = %(me)s
"""  # noqa: S608

_PROMOTE = f"""
WITH due AS MATERIALIZED (
    SELECT id FROM partisan_async_task
    WHERE status = 'scheduled' AND queue_name = %(queue_name)s
        AND execute_after <= statement_timestamp()
    ORDER BY execute_after LIMIT {PROMOTED_AT_ONCE} FOR UPDATE SKIP LOCKED),
promoted AS (
    UPDATE partisan_async_task t SET status = 'new' FROM due WHERE t.id = ANY (ARRAY[due.id])
    RETURNING 1)
SELECT (SELECT count(*) FROM promoted),
    (SELECT {_DUE_SECONDS}
     FROM partisan_async_task
     WHERE status = 'scheduled' AND queue_name = %(queue_name)s
         AND execute_after > statement_timestamp()
     ORDER BY execute_after LIMIT 1)
"""  # noqa: S608


def claim(me: UUID, queue_name: str, limit: int, ttl: timedelta) -> Statement:
    """Claim the next rows of a queue, if my last beat is younger than the TTL; see ``claims``."""
    params = {"me": me, "queue_name": queue_name, "limit": limit, "ttl": ttl}
    return Statement(_CLAIM, params)


def claim_only(me: UUID, task_id: int) -> Statement:
    """Claim this row; see ``claims``."""
    sql = f"""
    UPDATE partisan_async_task t
    SET status = 'in_process', claimed_by = %(me)s, claimed_at = statement_timestamp(), {_NEXT_SEQ}
    WHERE id = %(id)s AND status IN ('new', 'scheduled')
    RETURNING {_COLUMNS}
    """  # noqa: S608
    return Statement(sql, {"me": me, "id": task_id})


def rescue(
    me: UUID, queue_name: str, limit: int, ttl: timedelta, *, dead: Sequence[UUID], by_clock: bool
) -> Statement:
    """Claim rows whose supervisor is proven dead or, by the clock, silent for a TTL."""
    params = {"me": me, "queue_name": queue_name, "limit": limit, "ttl": ttl}
    return Statement(_RESCUE, params | {"dead": list(dead), "by_clock": by_clock})


def claims(rows: Iterable[Sequence[Any]]) -> list[Claim]:
    """Return the rows of a claim or a rescue in the order they should start: RETURNING has none."""
    return sorted((Claim(*row) for row in rows), key=lambda claim: (claim.priority, claim.id))


def look(claims: Sequence[Claim]) -> Statement:
    """Read what has become of rows: their id, claim_seq, holder and status."""
    sql = (
        "SELECT id, claim_seq, claimed_by, status FROM partisan_async_task WHERE id = ANY(%(ids)s)"
    )
    return Statement(sql, {"ids": [claim.id for claim in claims]})


def promote(queue_name: str) -> Statement:
    """Make due rows ready. One row: how many, and in how many seconds the next one is due."""
    return Statement(_PROMOTE, {"queue_name": queue_name})


def advance(queue_name: str | None, until: datetime.datetime) -> Statement:
    """Make the next row ready that is scheduled, if it is due by then. Rows: its time, or none.

    :param queue_name: ``None``: of all queues.
    """
    sql = """
    UPDATE partisan_async_task SET status = 'new' WHERE id = (
        SELECT id FROM partisan_async_task
        WHERE status = 'scheduled' AND execute_after <= %(until)s
            AND (%(queue_name)s::text IS NULL OR queue_name = %(queue_name)s)
        ORDER BY execute_after, priority, id LIMIT 1)
    RETURNING execute_after
    """
    return Statement(sql, {"queue_name": queue_name, "until": until})


def put_off(task_id: int, moment: datetime.datetime) -> Statement:
    """Schedule a waiting row for another moment."""
    sql = """
    UPDATE partisan_async_task SET execute_after = %(moment)s
    WHERE id = %(id)s AND status = 'scheduled'
    """
    return Statement(sql, {"id": task_id, "moment": moment})


def held(me: UUID) -> Statement:
    """Read the claims I hold; see ``claims``."""
    return Statement(_HELD, {"me": me})


# Settle

# The fence: a row that was rescued and claimed anew has another claim_seq and holder. `status` must
# not be named: it would imply the partial index over claimed_by, whose statistics promise one row,
# and the plan would then read every row I hold, dead ones too. The check constraint ties the two.
# Nor may it be written with "=", or my id stand in it as a constant: the same statistics make
# reading the whole table look cheaper than looking each row up by its id, as for claims.
_FENCE = """t.id = ANY (ARRAY[d.id]) AND t.claim_seq IS NOT DISTINCT FROM d.claim_seq
    AND t.claimed_by IS NOT DISTINCT FROM d.me"""

# A row may be locked by somebody's open transaction, and so may a digest: by a caller that has
# inserted the twin and not committed. A batch must not wait for that. The setting lasts to the end
# of this statement's transaction: a session's own would not get through a transaction pooler.
_PATIENCE = """
WITH patience AS MATERIALIZED (SELECT set_config('lock_timeout', %(patience)s, true))
"""

# For another attempt: it takes the rows that are free, and gives up the digests of those that go
# back to waiting, so that it has nothing to wait for, and no identical call to conflict with.
_FREE = f"""
AND t.id IN (SELECT t.id FROM partisan_async_task t JOIN d ON {_FENCE}
             FOR {{lock}} OF t SKIP LOCKED)
"""  # noqa: S608


def _kept(column: str) -> str:
    # A row that was changed by hand must not keep its batch from being settled.
    return (
        f"CASE WHEN jsonb_typeof({column}) <> 'array' THEN '[]'::jsonb"
        f" WHEN jsonb_array_length({column}) < {KEPT_PER_ROW} THEN {column} ELSE {column} - 0 END"
    )


_STARTED_AT = "statement_timestamp() - make_interval(secs => d.ran_seconds)"
_WORKER_IDS = f"{_kept('t.worker_ids')} || to_jsonb(d.worker)"

_SETTLE = f"""
{_PATIENCE}, d AS MATERIALIZED (
    SELECT d.*, %(me)s::uuid AS me FROM patience CROSS JOIN unnest(
        %(id)s::bigint[], %(claim_seq)s::int[], %(status)s::text[], %(pause)s::float8[],
        %(tries)s::int[], %(postpones)s::int[], %(lost)s::int[], %(suspect)s::bool[],
        %(unrecognised)s::int[], %(ran_seconds)s::float8[], %(worker)s::text[], %(failure)s::text[],
        %(result)s::text[])
    AS d (id, claim_seq, status, pause, tries, postpones, lost, suspect, unrecognised, ran_seconds,
        worker, failure, result))
UPDATE partisan_async_task t
SET status = d.status,
    claimed_by = NULL,
    claimed_at = NULL,
    execute_after = CASE WHEN d.pause IS NULL THEN t.execute_after
        ELSE statement_timestamp() + make_interval(secs => d.pause) END,
    tries = LEAST(t.tries::bigint + d.tries, 2147483647),
    postpones = LEAST(t.postpones::bigint + d.postpones, 2147483647),
    lost = LEAST(t.lost::bigint + d.lost, 2147483647),
    suspect = d.suspect,
    unrecognised = LEAST(t.unrecognised::bigint + d.unrecognised, 2147483647),
    started_at = CASE WHEN d.ran_seconds IS NULL THEN t.started_at
        ELSE COALESCE(t.started_at, {_STARTED_AT}) END,
    last_attempted_at = CASE WHEN d.ran_seconds IS NULL THEN t.last_attempted_at
        ELSE {_STARTED_AT} END,
    finished_at = CASE WHEN d.status IN ('finished', 'error') THEN statement_timestamp() END,
    worker_ids = CASE WHEN d.worker IS NULL THEN t.worker_ids ELSE {_WORKER_IDS} END,
    errors = CASE WHEN d.failure IS NULL THEN t.errors
        ELSE {_kept("t.errors")} || (d.failure::jsonb || jsonb_build_object(
            'try', t.tries::bigint + 1, 'at', statement_timestamp())) END,
    result = COALESCE(d.result::jsonb, t.result),
    digest = CASE WHEN %(gently)s AND d.status IN ('new', 'scheduled') THEN NULL
        ELSE t.digest END
FROM d WHERE {_FENCE}
"""  # noqa: S608

# The same for runs that all finished and returned nothing to keep, as most do: without the columns
# that would say nothing, which cost as much as those that are left.
_FINISH = f"""
{_PATIENCE}, d AS MATERIALIZED (
    SELECT d.*, %(me)s::uuid AS me FROM patience CROSS JOIN unnest(
        %(id)s::bigint[], %(claim_seq)s::int[], %(ran_seconds)s::float8[], %(worker)s::text[])
    AS d (id, claim_seq, ran_seconds, worker))
UPDATE partisan_async_task t
SET status = 'finished',
    claimed_by = NULL,
    claimed_at = NULL,
    tries = LEAST(t.tries::bigint + 1, 2147483647),
    suspect = false,
    started_at = COALESCE(t.started_at, {_STARTED_AT}),
    last_attempted_at = {_STARTED_AT},
    finished_at = statement_timestamp(),
    worker_ids = {_WORKER_IDS}
FROM d WHERE {_FENCE}
"""  # noqa: S608

_DELETE = f"""
{_PATIENCE}, d AS MATERIALIZED (
    SELECT d.*, %(me)s::uuid AS me FROM patience CROSS JOIN unnest(
        %(id)s::bigint[], %(claim_seq)s::int[])
    AS d (id, claim_seq))
DELETE FROM partisan_async_task t USING d WHERE {_FENCE}
"""  # noqa: S608


def settle(me: UUID, settlements: Sequence[Settlement], *, gently: bool = False) -> Statement:
    """Write what became of claims of mine. Rows: the ids of those that were written.

    :param gently: for the attempts after a unique violation or a lock timeout: leave out the
        rows that another transaction has locked; and a row that goes back to waiting gives its
        digest up, since an identical call waits, or may.
    """
    free = _FREE.format(lock="NO KEY UPDATE") if gently else ""
    runs = [
        (claim.id, claim.claim_seq, *ran)
        for claim, decision, ran, _ in settlements
        if ran and isinstance(decision, Finished) and decision.result is None
    ]
    if len(runs) == len(settlements):
        ids, seqs, seconds, workers = map(list, zip(*runs, strict=True))
        params = {"id": ids, "claim_seq": seqs, "ran_seconds": seconds, "worker": workers}
        return _settling(_FINISH, params | {"me": me}, free)
    rows = [_columns(settlement) for settlement in settlements]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return _settling(_SETTLE, columns | {"me": me, "gently": gently}, free)


def delete_finished(
    me: UUID, settlements: Sequence[Settlement], *, gently: bool = False
) -> Statement:
    """Delete claims of mine that finished; as ``settle``."""
    params = {
        "me": me,
        "id": [settlement.claim.id for settlement in settlements],
        "claim_seq": [settlement.claim.claim_seq for settlement in settlements],
    }
    return _settling(_DELETE, params, _FREE.format(lock="UPDATE") if gently else "")


def settle_within(me: UUID, settlement: Settlement, *, delete: bool) -> Statement:
    """Write that a claim of mine finished, in the transaction that did its work.

    It waits for the row as long as it takes: the work must not be done again for a lock's sake.
    """
    statement = delete_finished(me, [settlement]) if delete else settle(me, [settlement])
    return statement._replace(params=statement.params | {"patience": "0"})


ENDS_CHANNEL = "partisan_async.ended"
"""Where ends are told to those who wait for them; see ``announce``."""

ENDS_TOLD_AT_ONCE = 300
"""So many ids make a payload: it may have 8,000 bytes."""


def announce(ids: Sequence[int]) -> Statement:
    """Tell those who wait for them that these rows have ended: their ids, with commas."""
    payloads = [
        ",".join(map(str, ids[start : start + ENDS_TOLD_AT_ONCE]))
        for start in range(0, len(ids), ENDS_TOLD_AT_ONCE)
    ]
    sql = """
    SELECT set_config('synchronous_commit', 'off', true), pg_notify(%(channel)s, payload)
    FROM unnest(%(payloads)s::text[]) AS p (payload)
    """
    return Statement(sql, {"channel": ENDS_CHANNEL, "payloads": payloads})


def _settling(sql: str, params: dict[str, Any], free: str) -> Statement:
    params["patience"] = str(LOCK_PATIENCE_MILLISECONDS)
    return Statement(f"{sql}{free} RETURNING t.id", params)


def _columns(settlement: Settlement) -> dict[str, Any]:
    claim, decision, ran, _ = settlement
    row: dict[str, Any] = {
        "id": claim.id,
        "claim_seq": claim.claim_seq,
        "status": Task.STATUS_NEW,
        "pause": None,
        "tries": 0,
        "postpones": 0,
        "lost": 0,
        "suspect": False,
        "unrecognised": 0,
        "ran_seconds": ran and ran[0],
        "worker": ran and ran[1],
        "failure": None,
        "result": None,
    }
    match decision:
        case Finished(result):
            row |= {"status": Task.STATUS_FINISHED, "tries": 1, "result": result}
        case Failed(failure, lost):
            row |= {"status": Task.STATUS_ERROR, "failure": _json(failure), "lost": int(lost)}
            row |= {"tries": 1} if ran else {}
        case Retried(pause, failure):
            row |= {"tries": 1, "failure": _json(failure)} | _waiting(pause)
        case Postponed(pause):
            row |= {"postpones": 1} | _waiting(pause)
        case Deferred(pause):
            row |= {"unrecognised": 1, "suspect": claim.suspect} | _waiting(pause)
        case Suspected(failure):
            row |= {"suspect": True}
            row |= {"lost": 1, "failure": _json(failure)} if failure else {}
        case GivenBack():
            row |= {"suspect": claim.suspect}
        case _:
            assert_never(decision)
    return row


def _waiting(pause: timedelta) -> dict[str, Any]:
    status = Task.STATUS_SCHEDULED if pause else Task.STATUS_NEW
    return {"status": status, "pause": pause.total_seconds()}


def _json(failure: Failure) -> str:
    return json.dumps(asdict(failure))


# By hand

_SELECTED = "WHERE id = ANY(%(ids)s) AND status = ANY(%(statuses)s)"


def again(ids: Sequence[int]) -> Statement:
    """Run rows again that ended in error, as if for the first time. Rows: id and queue."""
    # Without its digest: an identical call may wait by now, or come.
    sql = f"""
    UPDATE partisan_async_task
    SET status = 'new', execute_after = statement_timestamp(), finished_at = NULL, digest = NULL,
        tries = 0, postpones = 0, lost = 0, suspect = false, unrecognised = 0
    {_SELECTED} RETURNING id, queue_name
    """  # noqa: S608
    return Statement(sql, {"ids": list(ids), "statuses": [Task.STATUS_ERROR]})


def run_now(ids: Sequence[int]) -> Statement:
    """Make scheduled rows ready. Rows: id and queue."""
    sql = f"""
    UPDATE partisan_async_task SET status = 'new', execute_after = statement_timestamp()
    {_SELECTED} RETURNING id, queue_name
    """  # noqa: S608
    return Statement(sql, {"ids": list(ids), "statuses": [Task.STATUS_SCHEDULED]})


def cancel(ids: Sequence[int], failure: Failure) -> Statement:
    """End rows that wait or run; who runs one learns of it. Rows: id and queue."""
    sql = f"""
    UPDATE partisan_async_task t
    SET status = 'error', claimed_by = NULL, claimed_at = NULL,
        finished_at = statement_timestamp(),
        errors = {_kept("t.errors")} || (%(failure)s::jsonb || jsonb_build_object(
            'try', t.tries::bigint + 1, 'at', statement_timestamp()))
    {_SELECTED} RETURNING id, queue_name
    """  # noqa: S608
    statuses = [Task.STATUS_NEW, Task.STATUS_SCHEDULED, Task.STATUS_IN_PROCESS]
    return Statement(sql, {"ids": list(ids), "statuses": statuses, "failure": _json(failure)})


def delete(ids: Sequence[int]) -> Statement:
    """Delete rows that have ended. Rows: id and queue."""
    sql = f"DELETE FROM partisan_async_task {_SELECTED} RETURNING id, queue_name"  # noqa: S608
    return Statement(sql, {"ids": list(ids), "statuses": list(ENDED)})


PRUNED_AT_ONCE = 1000
"""So many rows one statement deletes."""


def prune(older_than: timedelta, status: str, queue_name: str) -> Statement:
    """Delete the oldest rows of a queue that ended so long ago, or longer. Rows: the ids.

    :param status: ``finished`` or ``error``.
    """
    sql = f"""
    DELETE FROM partisan_async_task WHERE id = ANY (ARRAY(
        SELECT id FROM partisan_async_task
        WHERE status IN ('finished', 'error') AND status = %(status)s
            AND queue_name = %(queue_name)s
            AND finished_at < statement_timestamp() - %(older_than)s
        ORDER BY finished_at LIMIT {PRUNED_AT_ONCE} FOR UPDATE SKIP LOCKED))
    RETURNING id
    """  # noqa: S608
    params = {"older_than": older_than, "status": status, "queue_name": queue_name}
    return Statement(sql, params)


def ended_queues() -> Statement:
    """Read the names of the queues with rows that have ended, by leaps over their index."""
    sql = """
    WITH RECURSIVE names AS (
        (SELECT queue_name FROM partisan_async_task
         WHERE status IN ('finished', 'error') ORDER BY queue_name LIMIT 1)
        UNION ALL
        SELECT next.* FROM names CROSS JOIN LATERAL (
            SELECT t.queue_name FROM partisan_async_task t
            WHERE t.status IN ('finished', 'error') AND t.queue_name > names.queue_name
            ORDER BY t.queue_name LIMIT 1) AS next)
    SELECT queue_name FROM names
    """
    return Statement(sql, {})


def pause(queue_name: str) -> Statement:
    """Have nothing of a queue started. Rows: its name, if it was not paused before."""
    sql = """
    INSERT INTO partisan_async_pausedqueue (queue_name) VALUES (%(queue_name)s)
    ON CONFLICT DO NOTHING RETURNING queue_name
    """
    return Statement(sql, {"queue_name": queue_name})


def resume(queue_name: str) -> Statement:
    """End a queue's pause. Rows: its name, if it was paused."""
    sql = """
    DELETE FROM partisan_async_pausedqueue WHERE queue_name = %(queue_name)s RETURNING queue_name
    """
    return Statement(sql, {"queue_name": queue_name})


def drain(supervisor_id: UUID) -> Statement:
    """Have a supervisor start nothing more. Rows: its queue, if it has a row."""
    sql = """
    UPDATE partisan_async_supervisor SET draining = true WHERE id = %(id)s RETURNING queue_name
    """
    return Statement(sql, {"id": supervisor_id})


# Tally

_ADDED = (
    "finished", "failed", "retried", "postponed", "lost", "run_seconds", "wait_seconds",
)  # fmt: skip
_GREATEST = ("longest_run_seconds", "longest_wait_seconds")

TALLY_COLUMNS = ("processor_class", *_ADDED, *_GREATEST)
"""What ``tally`` takes of each processor."""


def tally(queue_name: str, rows: Sequence[tuple[Any, ...]]) -> Statement:
    """Add to what is told of the current minute.

    :param rows: of ``TALLY_COLUMNS``, one per processor.
    """
    # In one order for all: else two supervisors could wait for each other.
    columns = zip(*sorted(rows), strict=True)
    params = dict(zip(TALLY_COLUMNS, map(list, columns), strict=True))
    arrays = ", ".join(
        f"%({name})s::{'text' if name == 'processor_class' else 'float8'}[]"
        for name in TALLY_COLUMNS
    )
    changes = [f"{name} = t.{name} + excluded.{name}" for name in _ADDED]
    changes += [f"{name} = GREATEST(t.{name}, excluded.{name})" for name in _GREATEST]
    names = ", ".join(TALLY_COLUMNS)
    sql = f"""
    INSERT INTO partisan_async_tally AS t (minute, queue_name, {names})
    SELECT date_trunc('minute', statement_timestamp()), %(queue_name)s, d.*
    FROM unnest({arrays}) AS d ({names})
    ON CONFLICT (minute, queue_name, processor_class) DO UPDATE SET {", ".join(changes)}
    """  # noqa: S608
    return Statement(sql, params | {"queue_name": queue_name})


def forget_tallies(older_than: timedelta) -> Statement:
    """Delete what is told of minutes that are over for so long."""
    sql = "DELETE FROM partisan_async_tally WHERE minute < statement_timestamp() - %(age)s"
    return Statement(sql, {"age": older_than})


# Tick

# A schedule is set by the supervisor that started last among the living whose code has it: so an
# older release does not take it back, and one that is rolled back to has its turn when the newer
# ones are gone.
_MAY_SET = """
NOT EXISTS (SELECT 1 FROM partisan_async_supervisor setter
            WHERE setter.id = s.set_by AND setter.last_seen_at > statement_timestamp() - %(ttl)s
                AND (setter.started_at, setter.id) >= (me.started_at, me.id))
"""

_ME = """
me AS (SELECT id, started_at FROM partisan_async_supervisor
       WHERE id = %(me)s AND last_seen_at > statement_timestamp() - %(ttl)s)
"""

_SCHEDULES = f"""
WITH {_ME}
SELECT p.name, statement_timestamp(), s.queue_name, s.schedule, COALESCE(s.enabled, true),
    s.next_tick, COALESCE((SELECT {_MAY_SET} FROM me), false)
FROM unnest(%(names)s::text[]) AS p (name)
    LEFT JOIN partisan_async_schedule s ON s.processor_class = p.name
"""  # noqa: S608

# In one order for all: else two supervisors could wait for each other.
_SET_SCHEDULES = f"""
{_PATIENCE}, {_ME}
INSERT INTO partisan_async_schedule AS s
    (processor_class, queue_name, schedule, next_tick, set_by)
SELECT p.name, %(queue_name)s, p.schedule, p.next_tick, me.id
FROM patience, me, unnest(%(names)s::text[], %(schedules)s::text[], %(next_ticks)s::timestamptz[])
    AS p (name, schedule, next_tick)
ORDER BY p.name
ON CONFLICT (processor_class) DO UPDATE
SET queue_name = excluded.queue_name, schedule = excluded.schedule, set_by = excluded.set_by,
    next_tick = CASE WHEN NOT s.enabled THEN NULL
        WHEN s.schedule = excluded.schedule THEN COALESCE(s.next_tick, excluded.next_tick)
        ELSE excluded.next_tick END
WHERE (s.next_tick IS NULL AND s.schedule = excluded.schedule
        AND s.queue_name = excluded.queue_name)
    OR (SELECT {_MAY_SET} FROM me)
RETURNING s.processor_class
"""  # noqa: S608

# The one who moves the row on enqueues the tasks, in one statement: a tick is neither lost between
# the two nor taken twice, whatever dies when. It waits for nobody's transaction, see _PATIENCE: the
# next ones who look are the others' supervisors, and then this one again.
_TICK = f"""
{_PATIENCE}, ticked AS (
    UPDATE partisan_async_schedule s
    SET last_tick = %(last)s::timestamptz, next_tick = %(following)s::timestamptz
    FROM patience
    WHERE s.processor_class = %(processor_class)s AND s.queue_name = %(queue_name)s
        AND s.schedule = %(schedule)s AND s.next_tick = %(tick)s::timestamptz
        AND %(last)s::timestamptz <= statement_timestamp()
    RETURNING 1),
inserted AS (
    INSERT INTO partisan_async_task
        (queue_name, processor_class, arguments, priority, digest, execute_after, status)
    SELECT %(queue_name)s, %(processor_class)s,
        %(arguments)s::jsonb || jsonb_build_object('tick', tick), %(priority)s, %(digest)s, tick,
        'new'
    FROM ticked, unnest(%(ticks)s::timestamptz[]) AS t (tick) ORDER BY tick
    ON CONFLICT (digest) WHERE status IN ('new', 'scheduled') DO NOTHING
    RETURNING id)
SELECT EXISTS (SELECT 1 FROM ticked), (SELECT array_agg(id ORDER BY id) FROM inserted)
"""  # noqa: S608


class Scheduled(NamedTuple):
    """What the database says of a scheduled processor.

    :param now: its clock.
    :param queue_name, schedule: as they were set; ``None``: there is no row.
    :param next_tick: ``None``: it is to be counted.
    :param may_set: nobody who started later and lives has set it.
    """

    processor_class: str
    now: datetime.datetime
    queue_name: str | None
    schedule: str | None
    enabled: bool
    next_tick: datetime.datetime | None
    may_set: bool


def schedules(me: UUID, names: Sequence[str], ttl: timedelta) -> Statement:
    """Read the schedules of these processors. Rows: ``Scheduled``, one each."""
    return Statement(_SCHEDULES, {"me": me, "names": list(names), "ttl": ttl})


def set_schedules(
    me: UUID,
    queue_name: str,
    schedules: Sequence[tuple[str, str, datetime.datetime]],
    ttl: timedelta,
) -> Statement:
    """Set schedules as my code has them, as far as I may. Rows: the processors that it was done of.

    :param schedules: processor, schedule, and the first tick, where that has to be counted anew.
    """
    names, texts, ticks = map(list, zip(*schedules, strict=True))
    params = {
        "me": me,
        "queue_name": queue_name,
        "names": names,
        "schedules": texts,
        "next_ticks": ticks,
        "ttl": ttl,
        "patience": str(LOCK_PATIENCE_MILLISECONDS),
    }
    return Statement(_SET_SCHEDULES, params)


def tick(
    call: Call,
    schedule: str,
    ticks: Sequence[datetime.datetime],
    following: datetime.datetime,
) -> Statement:
    """Enqueue a call for each of these ticks, if nobody has. Row: whether so, and the tasks' ids.

    :param call: where it has a digest, and an identical one waits, none is enqueued.
    :param ticks: the one that is expected next, and those after it.
    """
    params = call._asdict() | {
        "schedule": schedule,
        "tick": ticks[0],
        "last": ticks[-1],
        "ticks": list(ticks),
        "following": following,
        "patience": str(LOCK_PATIENCE_MILLISECONDS),
    }
    return Statement(_TICK, params)


def switch_schedules(names: Sequence[str], *, on: bool) -> Statement:
    """Have schedules tick from now on, or no more. Rows: processor and queue of what changed."""
    # What would have been while it was off is nothing to catch up with.
    sql = """
    UPDATE partisan_async_schedule SET enabled = %(on)s, next_tick = NULL
    WHERE processor_class = ANY(%(names)s) AND enabled <> %(on)s
    RETURNING processor_class, queue_name
    """
    return Statement(sql, {"names": list(names), "on": on})


# Lease


def _is_any_ready(queue_name: str) -> str:
    # Not EXISTS: the planner multiplies "many of this queue" by "many are new", expects to meet one
    # soon wherever it looks, and reads a table of finished rows to its end.
    return f"""
    (SELECT id FROM partisan_async_task WHERE status = 'new' AND queue_name = {queue_name}
     ORDER BY priority, id LIMIT 1) IS NOT NULL
    """  # noqa: S608


# One statement, so that an idle supervisor costs one round trip per beat: it beats, and sees what a
# lost NOTIFY would have told, who of its host or of anywhere might be dead, and what is due when.
_BEAT = f"""
WITH beat AS (
    INSERT INTO partisan_async_supervisor
        (id, hostname, process, queue_name, last_seen_at, workers)
    VALUES (%(me)s, %(hostname)s, %(process)s::jsonb, %(queue_name)s, statement_timestamp(),
        %(workers)s::jsonb)
    ON CONFLICT (id) DO UPDATE SET workers = excluded.workers, last_seen_at = GREATEST(
        partisan_async_supervisor.last_seen_at, excluded.last_seen_at)
    RETURNING draining),
claimed AS (
    SELECT array_agg(t.id) FILTER (WHERE t.claimed_by = %(me)s) AS mine,
        COALESCE(bool_or(s.id IS NULL AND t.claimed_by <> %(me)s
            AND t.queue_name = %(queue_name)s), false) AS orphans
    FROM partisan_async_task t
    LEFT JOIN partisan_async_supervisor s
        ON s.id = t.claimed_by AND s.last_seen_at > statement_timestamp() - %(ttl)s
    WHERE t.status = 'in_process')
SELECT
    {_is_any_ready("%(queue_name)s")},
    (SELECT {_DUE_SECONDS}
     FROM partisan_async_task
     WHERE status = 'scheduled' AND queue_name = %(queue_name)s
     ORDER BY execute_after LIMIT 1),
    orphans,
    (SELECT jsonb_agg(jsonb_build_array(
            id, hostname, process, last_seen_at < statement_timestamp() - %(ttl)s))::text
     FROM partisan_async_supervisor
     WHERE id <> %(me)s AND queue_name = %(queue_name)s
         AND (hostname = %(hostname)s OR last_seen_at < statement_timestamp() - %(ttl)s)),
    CASE WHEN %(nonce)s::text IS NOT NULL
        THEN pg_notify(%(probe_channel)s, %(nonce)s) IS NOT NULL END,
    ARRAY(SELECT unnest(mine) EXCEPT SELECT unnest(%(known)s::bigint[])),
    ARRAY(SELECT unnest(%(known)s::bigint[]) EXCEPT SELECT unnest(mine)),
    EXISTS (SELECT 1 FROM partisan_async_pausedqueue WHERE queue_name = %(queue_name)s),
    draining
FROM claimed, beat
"""  # noqa: S608


def beat(
    me: UUID,
    *,
    hostname: str,
    process: str,
    queue_name: str,
    ttl: timedelta,
    probe_channel: str,
    nonce: str | None,
    known: Collection[int],
    workers: str = "[]",
) -> Statement:
    """Renew my lease, and look around.

    One row: whether rows are ready; in how many seconds the next scheduled one is due; whether rows
    of silent supervisors are there; JSON of the other supervisors of this host or silent ones
    (``id, hostname, process, silent``); where a nonce is given, that it was sent; the ids of
    rows that I hold and that are not among the known ones, and of known ones that I do not hold;
    whether the queue is paused; and whether I am to drain.

    :param workers: JSON of what the workers run.
    """
    params = {
        "me": me,
        "hostname": hostname,
        "process": process,
        "queue_name": queue_name,
        "ttl": ttl,
        "probe_channel": probe_channel,
        "nonce": nonce,
        "known": list(known),
        "workers": workers,
    }
    return Statement(_BEAT, params)


def forget(supervisors: Sequence[UUID]) -> Statement:
    """Remove supervisors' rows, of those that hold no claim."""
    sql = """
    DELETE FROM partisan_async_supervisor s WHERE s.id = ANY(%(ids)s::uuid[])
        AND NOT EXISTS (SELECT 1 FROM partisan_async_task t
                        WHERE t.status = 'in_process' AND t.claimed_by = s.id)
    """
    return Statement(sql, {"ids": list(supervisors)})


def unserved(
    queue_names: Sequence[str], ttl: timedelta, scheduled: Sequence[str] = ()
) -> Statement:
    """Read which of these queues have rows waiting and no live supervisor.

    :param scheduled: of them, those that nothing has to wait in: their ticks do not come.
    """
    sql = f"""
    SELECT q.name FROM unnest(%(queue_names)s::text[]) AS q (name)
    WHERE NOT EXISTS (SELECT 1 FROM partisan_async_supervisor s WHERE s.queue_name = q.name
                      AND s.last_seen_at > statement_timestamp() - %(ttl)s)
        AND (q.name = ANY(%(scheduled)s::text[]) OR {_is_any_ready("q.name")}
             OR (SELECT execute_after FROM partisan_async_task
                 WHERE status = 'scheduled' AND queue_name = q.name
                 ORDER BY execute_after LIMIT 1) <= statement_timestamp())
    """  # noqa: S608
    params = {"queue_names": list(queue_names), "ttl": ttl, "scheduled": list(scheduled)}
    return Statement(sql, params)
