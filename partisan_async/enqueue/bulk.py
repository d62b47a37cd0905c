"""Enqueues many calls of one processor: all or none, a thousand in a statement."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from django.db import OperationalError, connections, transaction
from psycopg.errors import DeadlockDetected

from partisan_async.claim import Call
from partisan_async.enqueue import spans
from partisan_async.enqueue.keyed import enqueue_all_keyed
from partisan_async.enqueue.keys import keys_of
from partisan_async.enqueue.rows import Rows
from partisan_async.enqueue.run import fetch
from partisan_async.enqueue.taking import Taken, attempts, taken_by
from partisan_async.enqueue.wake import wake
from partisan_async.models import Task
from partisan_async.postgres.in_flight import Flight, Message
from partisan_async.store import inserting
from partisan_async.store.inserting import INSERTED_AT_ONCE
from partisan_async.store.statement import array, database

DEADLOCK_ATTEMPTS = 5
"""Number of attempts to insert many calls before a deadlock is raised."""

Subjects = Sequence[str | None] | None
"""Whose each call is; ``None``: all are nobody's."""


def bulk_enqueue(
    common: Call, encoded: Sequence[str], subjects: Sequence[str | None]
) -> list[Task]:
    """Insert calls, all or none, and return their rows in this order; else as ``enqueue``.

    :param common: the first call; the others differ only in arguments and subject.
    :param encoded: the arguments of each call.
    :param subjects: whose each call is.
    """
    whose = None if all(each is None for each in subjects) else subjects
    alias = database()
    with spans.enqueuing(common.queue_name, common.processor_class, len(encoded)) as span:
        if span is not None:
            common = common._replace(traceparent=spans.traceparent())
        # A deadlock ends the caller's own transaction, and only the caller can retry that.
        connection = connections[alias]
        is_callers = connection.in_atomic_block or not connection.get_autocommit()
        left = 1 if is_callers else DEADLOCK_ATTEMPTS
        while True:
            left -= 1
            try:
                return _insert_and_wake(common, encoded, whose, alias)
            except OperationalError as error:
                if not left or not isinstance(error.__cause__, DeadlockDetected):
                    raise


def _insert_and_wake(
    common: Call, encoded: Sequence[str], subjects: Subjects, alias: str
) -> list[Task]:
    with transaction.atomic(using=alias, savepoint=False):
        taken = taken_by(connections[alias])
        if common.unique is not None:
            keys = keys_of(common.processor_class, encoded, subjects)
            return enqueue_all_keyed(common, encoded, keys, alias, taken, subjects)
        tasks = _insert(common, encoded, subjects, alias, taken)
        for status in {task.status for task in tasks}:
            wake(common.queue_name, status, alias, taken)
    return tasks


def _insert(
    common: Call, encoded: Sequence[str], subjects: Subjects, alias: str, taken: Taken
) -> list[Task]:
    count = len(encoded)
    digests = _digests(common, encoded, subjects)
    ids = ["NULL"] * count
    if count > INSERTED_AT_ONCE:
        # Each statement inserts the next calls by digest, not by position: so draw all ids first.
        ((given,),) = fetch(*inserting.next_ids(count), alias)
        ids = sorted(given.split(","), key=int)
    found: dict[int, Task] = {}
    missing = range(count) if digests is None else sorted(range(count), key=digests.__getitem__)
    takes = digests is not None and taken.has_room_for(count)
    taken.count += count if takes else 0
    for is_unique in attempts():
        unique = digests if is_unique else None
        found |= _insert_chunks(common, encoded, subjects, unique, ids, missing, alias, takes=takes)
        missing = [n for n in missing if n not in found]
        if not missing:
            break
        assert digests is not None
        found |= _twins(missing, digests, found, alias)
        missing = [n for n in missing if n not in found]
        if not missing:
            break
    return [found[n] for n in range(count)]


def _digests(common: Call, encoded: Sequence[str], subjects: Subjects) -> list[bytes] | None:
    if common.digest is None:
        return None
    return keys_of(common.processor_class, encoded, subjects)


def _twins(
    numbers: Sequence[int], digests: Sequence[bytes], inserted: dict[int, Task], alias: str
) -> dict[int, Task]:
    """Return the twins of these calls: among the inserted calls, or among rows that wait."""
    twins = {digests[n]: task for n, task in inserted.items()}
    for chunk in _chunks([n for n in numbers if digests[n] not in twins]):
        statement = inserting.twins([digests[n] for n in chunk])
        for task in Task.objects.using(alias).raw(*statement):
            task.is_twin = True
            twins[bytes(task.digest or b"")] = task
    return {n: twins[digests[n]] for n in numbers if digests[n] in twins}


def _insert_chunks(
    common: Call,
    encoded: Sequence[str],
    subjects: Subjects,
    digests: Sequence[bytes] | None,
    ids: Sequence[str],
    numbers: Sequence[int],
    alias: str,
    *,
    takes: bool,
) -> dict[int, Task]:
    """Insert calls in chunks; return the tasks of those without a twin, by the calls' numbers."""

    def message(chunk: Sequence[int]) -> Message:
        statement = inserting.bulk_insert(
            common,
            array(ids[n] for n in chunk),
            [encoded[n] for n in chunk],
            None if digests is None else [digests[n] for n in chunk],
            None if subjects is None else [subjects[n] for n in chunk],
            takes=takes and digests is not None,
        )
        return flight.message(*statement)

    def made(chunk: Sequence[int], answer: list[Any]) -> dict[int, Task]:
        ((given, pks, *same),) = answer
        if not pks:
            return {}
        made = Rows(alias, common, *same)
        number_of = dict(zip(given, chunk, strict=True))
        inserted = [number_of[pk] for pk in pks]
        decoded = json.loads(f"[{','.join([encoded[n] for n in inserted])}]")
        whose = subjects or [None] * len(encoded)
        return {
            n: made.of(pk, call, None if digests is None else digests[n], whose[n])
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
        return found | made(under_way, flight.answer()())


def _chunks(numbers: Sequence[int]) -> Iterator[list[int]]:
    """Yield a thousand at a time, each thousand in ascending order."""
    for start in range(0, len(numbers), INSERTED_AT_ONCE):
        yield sorted(numbers[start : start + INSERTED_AT_ONCE])
