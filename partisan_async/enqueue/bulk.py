"""Enqueues many calls: all or none, a thousand in a statement."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from django.db import OperationalError, connections, transaction
from psycopg.errors import DeadlockDetected

from partisan_async.enqueue import spans
from partisan_async.enqueue.batch import Batch
from partisan_async.enqueue.ids import drawn
from partisan_async.enqueue.keyed import enqueue_all_keyed
from partisan_async.enqueue.late import none_if_it_waits
from partisan_async.enqueue.rows import Rows, status_beside
from partisan_async.enqueue.taking import Taken, attempts, taken_by
from partisan_async.enqueue.wake import wake_for
from partisan_async.models import Task
from partisan_async.postgres.in_flight import Flight, Message
from partisan_async.store import bulk
from partisan_async.store.bulk import INSERTED_AT_ONCE
from partisan_async.store.mixed import insert_mixed
from partisan_async.store.statement import array, database

DEADLOCK_ATTEMPTS = 5
"""Number of attempts to insert many calls before a deadlock is raised."""


def bulk_enqueue(batch: Batch) -> list[Task]:
    """Insert calls, all or none, and return their rows in this order; else as ``enqueue``."""
    if not batch:
        return []
    alias = database()
    with spans.enqueuing(batch.queue_name, batch.processor_class, len(batch)) as span:
        if span is not None:
            batch = batch.traced(spans.traceparent())
        # A deadlock ends the caller's own transaction, and only the caller can retry that.
        connection = connections[alias]
        is_callers = connection.in_atomic_block or not connection.get_autocommit()
        left = 1 if is_callers else DEADLOCK_ATTEMPTS
        while True:
            left -= 1
            try:
                return _insert_and_wake(batch, alias)
            except OperationalError as error:
                if not left or not isinstance(error.__cause__, DeadlockDetected):
                    raise


def _insert_and_wake(batch: Batch, alias: str) -> list[Task]:
    found: dict[int, Task] = {}
    with transaction.atomic(using=alias, savepoint=False):
        taken = taken_by(connections[alias])
        ids = _drawn(batch, alias)
        if batch.plain_kinds:
            found = _Plain(batch, ids, alias).enqueued(taken)
            wake_for(found.values(), alias, taken)
        # In the order of the processors, and of the keys of each: whoever inserts the same calls
        # inserts them in the same order, as above.
        for kind in batch.ruled_kinds:
            numbers = batch.numbers([kind])
            tasks = enqueue_all_keyed(
                batch.kinds[kind],
                [batch.encoded[n] for n in numbers],
                [batch.keys[n] for n in numbers],
                alias,
                taken,
                batch.subjects_of(numbers),
                batch.limit_keys_of(numbers),
                None if ids is None else [ids[n] for n in numbers],
            )
            found.update(zip(numbers, tasks, strict=True))
    return [found[n] for n in range(len(batch))]


def _drawn(batch: Batch, alias: str) -> Sequence[str] | None:
    """Return an id for each call, in their order; ``None``: one statement inserts and draws."""
    # Each statement inserts the next calls by digest, not by position: so draw all ids first.
    ruled = batch.ruled_kinds
    if (not ruled and len(batch) <= INSERTED_AT_ONCE) or len(ruled) == len(batch.kinds) == 1:
        return None
    return drawn(len(batch), alias)


class _Plain:
    """The calls of a batch that are the same only while they wait, if at all."""

    def __init__(self, batch: Batch, ids: Sequence[str] | None, alias: str) -> None:
        self._batch = batch
        self._kinds = batch.plain_kinds
        self._ids = ids or ["NULL"] * len(batch)
        self._alias = alias

    def enqueued(self, taken: Taken) -> dict[int, Task]:
        """Return the row of each call, or its twin's, by the calls' numbers."""
        missing = self._batch.numbers(self._kinds)
        unique = [kind for kind in self._kinds if self._batch.kinds[kind].key]
        count = len(self._batch.numbers(unique)) if unique else 0
        takes = count > 0 and taken.has_room_for(count)
        taken.count += count if takes else 0
        if count:
            missing = sorted(missing, key=self._batch.keys.__getitem__)
        found: dict[int, Task] = {}
        for attempt, is_unique in enumerate(attempts()):
            digests = self._batch.keys if count and is_unique else None
            with none_if_it_waits(self._alias, late=attempt > 0 and is_unique):
                found |= self._insert(missing, digests, takes=takes)
            missing = [n for n in missing if n not in found]
            if not missing:
                break
            found |= self._twins(missing, found)
            missing = [n for n in missing if n not in found]
            if not missing:
                break
        return found

    def _twins(self, numbers: Sequence[int], inserted: dict[int, Task]) -> dict[int, Task]:
        """Return the twins of these calls: among the inserted calls, or among rows that wait."""
        digests = self._batch.keys
        twins = {digests[n]: task for n, task in inserted.items()}
        for chunk in _chunks([n for n in numbers if digests[n] not in twins]):
            statement = bulk.twins([digests[n] for n in chunk])
            for task in Task.objects.using(self._alias).raw(*statement):
                task.is_twin = True
                twins[bytes(task.digest or b"")] = task
        return {n: twins[digests[n]] for n in numbers if digests[n] in twins}

    def _insert(
        self, numbers: Sequence[int], digests: Sequence[bytes] | None, *, takes: bool
    ) -> dict[int, Task]:
        """Insert calls in chunks; return the tasks of those without a twin, by their numbers."""
        found: dict[int, Task] = {}
        first, *others = _chunks(numbers)
        with Flight(connections[self._alias]) as flight:
            flight.send(self._message(flight, first, digests, takes=takes))
            under_way = first
            for chunk in others:
                following = self._message(flight, chunk, digests, takes=takes)
                read = flight.answer()
                flight.send(following)
                found |= self._made(under_way, read(), digests)
                under_way = chunk
            found |= self._made(under_way, flight.answer()(), digests)
        return found

    def _message(
        self, flight: Flight, chunk: Sequence[int], digests: Sequence[bytes] | None, *, takes: bool
    ) -> Message:
        batch = self._batch
        own = (
            array(self._ids[n] for n in chunk),
            [batch.encoded[n] for n in chunk],
            None if digests is None else [digests[n] for n in chunk],
            batch.subjects_of(chunk),
            batch.limit_keys_of(chunk),
        )
        takes = takes and digests is not None
        if len(self._kinds) == 1:
            statement = bulk.insert_bulk(batch.kinds[self._kinds[0]], *own, takes=takes)
        else:
            kind_of = [batch.kind_of[n] for n in chunk]
            statement = insert_mixed(batch.kinds, kind_of, *own, takes=takes)
        return flight.message(*statement)

    def _made(
        self, chunk: Sequence[int], answer: list[Any], digests: Sequence[bytes] | None
    ) -> dict[int, Task]:
        ((given, pks, status, *moments),) = answer
        if not pks:
            return {}
        kind_of, encoded = self._batch.kind_of, self._batch.encoded
        rows = [
            Rows(self._alias, kind, status_beside(kind, status), *moments)
            for kind in self._batch.kinds
        ]
        number_of = dict(zip(given, chunk, strict=True))
        inserted = [number_of[pk] for pk in pks]
        whose = self._batch.subjects or [None] * len(encoded)
        in_limits = self._batch.limit_keys or [None] * len(encoded)
        decoded = json.loads(f"[{','.join([encoded[n] for n in inserted])}]")
        return {
            n: rows[kind_of[n]].of(
                pk, call, (digests[n] or None) if digests else None, whose[n], in_limits[n]
            )
            for n, pk, call in zip(inserted, pks, decoded, strict=True)
        }


def _chunks(numbers: Sequence[int]) -> Iterator[list[int]]:
    """Yield a thousand at a time, each thousand in ascending order."""
    for start in range(0, len(numbers), INSERTED_AT_ONCE):
        yield sorted(numbers[start : start + INSERTED_AT_ONCE])
