"""Inserts calls, one or many, or finds their waiting twins."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any

from django.db import OperationalError, connections, models, transaction
from django.db.models.base import ModelState
from psycopg.errors import DeadlockDetected

from partisan_async.claim import Call
from partisan_async.enqueue import arguments, spans
from partisan_async.enqueue.taking import KEY, Taken, attempts, key_of, taken_by
from partisan_async.models import Task
from partisan_async.models.readable import moment
from partisan_async.postgres import one_message
from partisan_async.postgres.in_flight import Flight, Message
from partisan_async.store.statement import array, database
from partisan_async.store.waking import notify, wake

INSERTED_AT_ONCE = 1000
"""So many calls are inserted by one statement."""

DEADLOCK_ATTEMPTS = 5
"""So often many calls are inserted before a deadlock with others is the caller's to meet."""

_COUNTS = ("claim_seq", "tries", "postpones", "lost", "unrecognised", "interrupted")
_COLUMNS = Task._meta.concrete_fields  # noqa: SLF001  documented API in spite of its name
_COLUMN_NAMES = [field.attname for field in _COLUMNS]
_COLUMNS_READABLE = ", ".join(
    f"{moment(name)} AS {name}" if isinstance(field, models.DateTimeField) else name
    for field, name in zip(_COLUMNS, _COLUMN_NAMES, strict=True)
)


def enqueue(call: Call) -> Task:
    """Insert a call, and return its row or its waiting twin's; wake supervisors afterwards."""
    alias = database()
    taken = taken_by(connections[alias])
    with spans.enqueuing(call.queue_name, call.processor_class) as span:
        if span is not None:
            call = call._replace(traceparent=spans.traceparent())
        task, is_told = _insert(call, alias, taken)
        spans.told_id(span, task.pk)
    if not is_told:
        wake(call.queue_name, task.status, alias, taken)
    return task


def bulk_enqueue(common: Call, encoded: Sequence[str]) -> list[Task]:
    """Insert calls, all or none, and return their rows in this order; else as ``enqueue``.

    :param common: the first of them; they differ in their arguments alone.
    :param encoded: the arguments of each.
    """
    alias = database()
    with spans.enqueuing(common.queue_name, common.processor_class, len(encoded)) as span:
        if span is not None:
            common = common._replace(traceparent=spans.traceparent())
        # A transaction of the caller's cannot be begun again.
        connection = connections[alias]
        is_callers = connection.in_atomic_block or not connection.get_autocommit()
        left = 1 if is_callers else DEADLOCK_ATTEMPTS
        while True:
            left -= 1
            try:
                return _insert_and_wake(common, encoded, alias)
            except OperationalError as error:
                if not left or not isinstance(error.__cause__, DeadlockDetected):
                    raise


# The index of a conflict is not named: to find it by its predicate takes the server a tenth of all.
# What else may be in conflict is met once more by the insert without a digest.
_INSERT = """
INSERT INTO partisan_async_task
    (queue_name, processor_class, arguments, priority, digest, traceparent, execute_after, status)
SELECT %(queue_name)s, %(processor_class)s, %(arguments)s::jsonb, %(priority)s, %(digest)s::bytea,
    %(traceparent)s, COALESCE(%(execute_after)s::timestamptz, statement_timestamp()),
    CASE WHEN %(execute_after)s::timestamptz > statement_timestamp()
        THEN 'scheduled' ELSE 'new' END
WHERE %(key)s::bigint IS NULL OR pg_try_advisory_xact_lock(%(key)s::bigint)
"""
_UNLESS_IT_WAITS = "ON CONFLICT DO NOTHING "
_INSERTED = "RETURNING id, status, created_at, NULLIF(execute_after, created_at)"

# FOR SHARE keeps the twin from being claimed before the caller commits: it would run on the state
# from before the caller's changes, and the call that was to announce them was ignored. One that
# somebody has locked is being claimed, or steered in a transaction that is open.
_TWIN = f"""
SELECT {_COLUMNS_READABLE} FROM partisan_async_task
WHERE digest = %(digest)s AND status IN ('new', 'scheduled') FOR SHARE SKIP LOCKED
"""  # noqa: S608


def _insert(call: Call, alias: str, taken: Taken) -> tuple[Task, bool]:
    """Return the row or the waiting twin's, and whether supervisors were told of it."""
    if call.digest is not None:
        key = key_of(call.digest) if taken.has_room_for(1) else None
        taken.count += key is not None
        for _ in takewhile(bool, attempts()):
            rows, is_told = _fetch_inserted(
                _INSERT + _UNLESS_IT_WAITS + _INSERTED, call, key, alias
            )
            for row in rows:
                return _made(alias, call, *row), is_told
            # A twin waits, or is being inserted by a transaction that is open yet. It may be
            # claimed, or its transaction end, before the look: then the insert is tried again.
            for task in Task.objects.using(alias).raw(_TWIN, {"digest": call.digest}):
                task.is_twin = True
                return task, is_told and task.status == Task.STATUS_NEW
        call = call._replace(digest=None)
    (row,), is_told = _fetch_inserted(_INSERT + _INSERTED, call, None, alias)
    return _made(alias, call, *row), is_told


def _fetch_inserted(sql: str, call: Call, key: int | None, alias: str) -> tuple[list[Any], bool]:
    params = call._asdict() | {"key": key}
    if call.execute_after is None:
        told = notify(call.queue_name, Task.STATUS_NEW).sql
        rows = one_message.fetch(connections[alias], sql, params, told)
        if rows is not None:
            return rows, True
    return _fetch(sql, params, alias), False


def _made(alias: str, call: Call, pk: int, *told: Any) -> Task:
    return _Rows(alias, call, *told).of(pk, json.loads(call.arguments), call.digest)


# The ids are given out in the order of the calls, since it is they that decide which starts first;
# the rows are inserted in the order of the digests. Where these are too many to be taken, two
# callers in opposite orders would deadlock. (They still may, where a twin was claimed before the
# look at it, and is inserted after all while digests above it are held.) The arguments come as
# lines and the digests in one piece: to quote each for an array takes as long as all else that the
# client does. The sequence is found by a query of its own, once and not for each row.
_BULK_INSERT = f"""
WITH call AS MATERIALIZED (
    SELECT n, COALESCE(given, nextval(
            (SELECT pg_get_serial_sequence('partisan_async_task', 'id')::regclass))) AS id,
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
    WHERE NOT %(takes)s OR pg_try_advisory_xact_lock({KEY})
    ORDER BY digest, id
    ON CONFLICT (digest) WHERE status IN ('new', 'scheduled') DO NOTHING
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
SELECT {_COLUMNS_READABLE} FROM partisan_async_task
WHERE digest = ANY(%(digests)s) AND status IN ('new', 'scheduled') ORDER BY digest
FOR SHARE SKIP LOCKED
"""  # noqa: S608


def _insert_and_wake(common: Call, encoded: Sequence[str], alias: str) -> list[Task]:
    with transaction.atomic(using=alias, savepoint=False):
        taken = taken_by(connections[alias])
        tasks = _bulk_insert(common, encoded, alias, taken)
        for status in {task.status for task in tasks}:
            wake(common.queue_name, status, alias, taken)
    return tasks


def _bulk_insert(common: Call, encoded: Sequence[str], alias: str, taken: Taken) -> list[Task]:
    count = len(encoded)
    digests = arguments.digests(common.processor_class, encoded) if common.digest else None
    ids = ["NULL"] * count
    if count > INSERTED_AT_ONCE:
        # Each statement has its share of the order of the digests, and not of that of the ids.
        ((given,),) = _fetch(_NEXT_IDS, {"count": count}, alias)
        ids = sorted(given.split(","), key=int)
    found: dict[int, Task] = {}
    missing = range(count) if digests is None else sorted(range(count), key=digests.__getitem__)
    takes = digests is not None and taken.has_room_for(count)
    taken.count += count if takes else 0
    for is_unique in attempts():
        unique = digests if is_unique else None
        found |= _insert_chunks(common, encoded, unique, ids, missing, alias, takes=takes)
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


def _insert_chunks(
    common: Call,
    encoded: Sequence[str],
    digests: Sequence[bytes] | None,
    ids: Sequence[str],
    numbers: Sequence[int],
    alias: str,
    *,
    takes: bool,
) -> dict[int, Task]:
    """Return the rows of those of these calls that have no twin, by their numbers."""

    def message(chunk: Sequence[int]) -> Message:
        params = common._asdict() | {
            "ids": array(ids[n] for n in chunk),
            "arguments": "\n".join([encoded[n] for n in chunk]),
            "digests": None if digests is None else b"".join([digests[n] for n in chunk]),
            "takes": takes and digests is not None,
        }
        return flight.message(_BULK_INSERT, params)

    def made(chunk: Sequence[int], answer: list[Any]) -> dict[int, Task]:
        ((given, pks, *same),) = answer
        if not pks:
            return {}
        rows = _Rows(alias, common, *same)
        number_of = dict(zip(given, chunk, strict=True))
        inserted = [number_of[pk] for pk in pks]
        decoded = json.loads(f"[{','.join([encoded[n] for n in inserted])}]")
        return {
            n: rows.of(pk, call, None if digests is None else digests[n])
            for n, pk, call in zip(inserted, pks, decoded, strict=True)
        }

    found: dict[int, Task] = {}
    first, *others = _chunks(numbers)
    with Flight(connections[alias]) as flight:
        flight.send(message(first))
        under_way = first
        for chunk in others:
            following = message(chunk)
            read = flight.answer()
            flight.send(following)
            found |= made(under_way, read())
            under_way = chunk
        found |= made(under_way, flight.answer()())
    return found


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
            **dict.fromkeys(_COUNTS, 0),
        }
        self._alias = alias

    def of(self, pk: int, arguments: dict[str, Any], digest: bytes | None) -> Task:
        # As unpickling makes them: Model.__init__() takes as long as all else that is done for one.
        task = Task.__new__(Task)
        task.__dict__ = fields = self._fields.copy()
        fields["_state"] = state = ModelState()
        state.adding, state.db = False, self._alias
        fields["id"], fields["arguments"], fields["digest"] = pk, arguments, digest
        fields["worker_ids"], fields["errors"] = [], []
        return task


def _fetch(sql: str, params: dict[str, Any], alias: str) -> list[Any]:
    with connections[alias].cursor() as cursor:
        cursor.execute(sql, params)
        return list(cursor.fetchall())


def _chunks(numbers: Sequence[int]) -> Iterator[list[int]]:
    """Yield a thousand at a time, each thousand in ascending order."""
    for start in range(0, len(numbers), INSERTED_AT_ONCE):
        yield sorted(numbers[start : start + INSERTED_AT_ONCE])
