"""Wakes the supervisors of a queue after the commit, on Django's connection.

Of rows that wait for limits they are told the ids, of all that a transaction has enqueued at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain
from weakref import WeakKeyDictionary, WeakSet

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from partisan_async.enqueue.run import run
from partisan_async.enqueue.taking import Taken
from partisan_async.models import Status, Task
from partisan_async.store import TOLD_AT_MOST, limited_payload, notify

_notified: WeakKeyDictionary[BaseDatabaseWrapper, set[tuple[str, str]]] = WeakKeyDictionary()


class _Limited:
    """Rows of a queue that wait for limits, and are to be told of.

    The callback that is registered for the commit keeps it alive, and is dropped where its
    savepoint is rolled back.
    """

    def __init__(self, queue_name: str, ids: Sequence[int]) -> None:
        self.queue_name = queue_name
        self.ids = ids[: TOLD_AT_MOST + 1]


_untold: WeakKeyDictionary[BaseDatabaseWrapper, WeakSet[_Limited]] = WeakKeyDictionary()


def wake_for(tasks: Iterable[Task], alias: str, taken: Taken | None = None) -> None:
    """Wake the supervisors of these tasks' queues, after the commit; else as ``wake``."""
    woken: set[tuple[str, str]] = set()
    limited: dict[str, list[int]] = defaultdict(list)
    for task in tasks:
        if task.status == Status.LIMITED:
            limited[task.queue_name].append(task.pk)
        else:
            woken.add((task.queue_name, task.status))
    for queue_name, status in woken:
        wake(queue_name, status, alias, taken)
    for queue_name, ids in limited.items():
        wake_limited(queue_name, ids, alias, taken)


def wake(queue_name: str, status: str, alias: str, taken: Taken | None = None) -> None:
    """Wake the supervisors of a queue, after the commit: it has rows of this status.

    :param taken: an object to keep alive until the transaction ends.
    """
    # In a transaction NOTIFY takes a lock that all commits of the cluster share, so send it in its
    # own statement after the commit. Register on every call. If we skipped a call because one is
    # already registered, rolling back that one's savepoint would drop the NOTIFY. On commit the
    # first callback notifies; the rest find it done.
    connection = connections[alias]
    if _is_within(connection):
        run(*notify(queue_name, status, within=True), alias)
        return
    _notified.setdefault(connection, set()).clear()

    # No functools.partial: if the NOTIFY fails, Django 5.2 logs the callback's __qualname__. A
    # partial has none, and the AttributeError would look like a failed commit to the caller.
    def notify_once(_: Taken | None = taken) -> None:
        _notify_once(queue_name, status, alias)

    transaction.on_commit(notify_once, using=alias, robust=True)


def wake_limited(
    queue_name: str, ids: Sequence[int], alias: str, taken: Taken | None = None
) -> None:
    """Tell the supervisors of a queue that these rows wait for limits; else as ``wake``."""
    connection = connections[alias]
    if _is_within(connection):
        run(*notify(queue_name, limited_payload(ids), within=True), alias)
        return
    rows = _Limited(queue_name, ids)
    _untold.setdefault(connection, WeakSet()).add(rows)

    def notify_together(_: Taken | None = taken) -> None:
        _notify_together(rows, alias)

    transaction.on_commit(notify_together, using=alias, robust=True)


def _is_within(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether a transaction is open of whose end no callback tells."""
    return not connection.in_atomic_block and not connection.get_autocommit()


def _notify_once(queue_name: str, status: str, alias: str) -> None:
    connection = connections[alias]
    done = _notified.setdefault(connection, set())
    if (queue_name, status) not in done:
        done.add((queue_name, status))
        _notify(connection, queue_name, status)


def _notify_together(rows: _Limited, alias: str) -> None:
    """Tell of these rows, and of all others of the queue that this transaction has enqueued."""
    connection = connections[alias]
    untold = _untold.get(connection)
    if untold is None or rows not in untold:
        return
    together = [each for each in untold if each.queue_name == rows.queue_name]
    untold.difference_update(together)
    ids = chain.from_iterable(each.ids for each in together)
    _notify(connection, rows.queue_name, limited_payload(ids))


def _notify(connection: BaseDatabaseWrapper, queue_name: str, told: str) -> None:
    # No Django cursor: it takes longer than the server does, and the site's query counts would
    # include it. prepare=False: two statements in one string cannot be prepared.
    connection.ensure_connection()
    with connection.wrap_database_errors:
        connection.connection.execute(*notify(queue_name, told), prepare=False)
