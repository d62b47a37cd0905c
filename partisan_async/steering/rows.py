"""Runs a statement that changes rows, and wakes the queues of these rows.

If the database refuses some rows, the others are changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.db import Error, connections, transaction

from partisan_async import store
from partisan_async.enqueue.run import fetch, run
from partisan_async.enqueue.taking import Taken
from partisan_async.enqueue.wake import wake
from partisan_async.models import Task
from partisan_async.postgres.blame import is_of_some_rows


def change(
    way: Callable[[Sequence[Any]], store.Statement],
    keys: Sequence[Any],
    told: str | None,
    taken: Taken | None = None,
) -> list[Any]:
    """Change rows, wake their queues, and return the rows' keys.

    :param way: makes the statement, which returns the key, the queue's name, and the status where
        that may be ``limited``.
    :param told: payload of the NOTIFY to the queues' supervisors; ``None``: no NOTIFY. Of rows that
        wait for limits they are told the ids, by the same transaction.
    """
    rows = _do(way, keys)
    queue_names = {queue_name for _, queue_name, *status in rows if not _is_limited(status)}
    if taken is not None and connections[store.database()].in_atomic_block:
        taken.keep(store.database())
    for queue_name in queue_names:
        if told is not None:
            wake(queue_name, told, store.database(), taken)
    return [key for key, *_ in rows]


def is_the_rows(error: Error) -> bool:
    """Tell whether the statement may succeed with other rows."""
    return is_of_some_rows(error.__cause__ or error)


def _do(way: Callable[[Sequence[Any]], store.Statement], keys: Sequence[Any]) -> list[Any]:
    """Change all rows that the database accepts; if one fails the statement, retry in halves.

    :raises Error: the database accepts none of them.
    """
    try:
        with transaction.atomic(using=store.database()):
            rows = fetch(*way(keys))
            _line_up_limited(rows)
            return rows
    except Error as error:
        if len(keys) < 2 or not is_the_rows(error):
            raise
    middle = len(keys) // 2
    rows, refused = [], []
    for half in (keys[:middle], keys[middle:]):
        try:
            rows += _do(way, half)
        except Error as error:
            if not is_the_rows(error):
                raise
            refused.append(error)
    if len(refused) == 2:
        raise refused[0]
    return rows


def _line_up_limited(rows: Sequence[Any]) -> None:
    """Give those that wait for limits their turns there, and tell of them."""
    # Within the transaction, unlike an enqueue: the beat finds new rows if nobody told of them, but
    # none of an earlier id that waits again. What people do is rare enough for that lock.
    limited: dict[str, list[Any]] = {}
    for key, queue_name, *status in rows:
        if _is_limited(status):
            limited.setdefault(queue_name, []).append(key)
    if limited:
        run(*store.rerank([key for ids in limited.values() for key in ids]), store.database())
    for queue_name, ids in limited.items():
        payload = store.limited_payload(ids)
        run(*store.notify(queue_name, payload, within=True), store.database())


def _is_limited(status: Sequence[str]) -> bool:
    return list(status) == [Task.STATUS_LIMITED]
