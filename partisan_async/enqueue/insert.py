"""Enqueues one call: inserts its row, or finds its waiting twin."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from django.db import connections

from partisan_async.claim import Call
from partisan_async.enqueue import spans
from partisan_async.enqueue.keyed import enqueue_keyed
from partisan_async.enqueue.rows import Rows
from partisan_async.enqueue.run import fetch
from partisan_async.enqueue.taking import Taken, attempts, key_of, taken_by
from partisan_async.enqueue.wake import wake_for
from partisan_async.models import Task
from partisan_async.models.status import Status
from partisan_async.postgres import one_message
from partisan_async.store import inserting
from partisan_async.store.notifying import notify
from partisan_async.store.noting import insert_and_tell
from partisan_async.store.statement import database

_NEW, _LIMITED = Status.NEW.value, Status.LIMITED.value


def enqueue(call: Call) -> Task:
    """Insert a call, and wake supervisors; return its row, or the row of its waiting twin."""
    alias = database()
    taken = taken_by(connections[alias])
    with spans.enqueuing(call.queue_name, call.processor_class) as span:
        if span is not None:
            call = call._replace(traceparent=spans.traceparent())
        task, is_told = _insert(call, alias, taken)
        spans.set_task_id(span, task.pk)
    if not is_told:
        wake_for([task], alias, taken)
    return task


def _insert(call: Call, alias: str, taken: Taken) -> tuple[Task, bool]:
    """Return the call's row or its waiting twin's, and True if its supervisors were notified."""
    if call.unique is not None:
        return enqueue_keyed(call, alias, taken), True
    if call.digest is not None:
        key = key_of(call.digest) if taken.has_room_for(1) else None
        taken.count += key is not None
        for _ in takewhile(bool, attempts()):
            inserted, is_told = _fetch(call, key, alias)
            for pk, *told in inserted:
                return _row(call, alias, pk, told), is_told
            # A twin waits, or an open transaction inserts one. No row is found if the twin is
            # locked, claimed meanwhile or not committed: then the insert is tried again.
            for task in Task.objects.using(alias).raw(*inserting.twin(call.digest)):
                task.is_twin = True
                # One that waits for a limit was told of by whoever enqueued it.
                told_of = (call.queue_name, _NEW if call.limit_name is None else _LIMITED)
                return task, is_told and (task.queue_name, task.status) == told_of
        # No attempt could insert the call or lock a twin. Insert without a digest: a duplicate is
        # better than an error.
        call = call._replace(digest=None)
    ((pk, *told),), is_told = _fetch(call, None, alias)
    return _row(call, alias, pk, told), is_told


def _row(call: Call, alias: str, pk: int, told: Sequence[Any]) -> Task:
    own = json.loads(call.arguments), call.digest, call.subject, call.limit_key
    return Rows(alias, call, *told).of(pk, *own)


def _fetch(call: Call, key: int | None, alias: str) -> tuple[list[Any], bool]:
    if call.execute_after is None:
        inserted = _in_one_message(call, key, alias)
        if inserted is not None:
            return inserted, True
    return fetch(*inserting.insert(call, key), alias), False


def _in_one_message(call: Call, key: int | None, alias: str) -> list[Any] | None:
    """Insert, commit and tell; return the rows, or ``None`` if it cannot be done so."""
    connection = connections[alias]
    if connection.in_atomic_block:
        return None
    if call.limit_name is None:
        told = notify(call.queue_name, _NEW).sql
        return one_message.fetch(connection, *inserting.insert(call, key), told)
    statement, told = insert_and_tell(call, key)
    noted = one_message.fetch(connection, *statement, told)
    return None if noted is None else [row[:-1] for row in noted]
