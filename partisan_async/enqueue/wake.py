"""Wakes the supervisors of a queue after the commit, on Django's connection."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from partisan_async.enqueue.run import run
from partisan_async.enqueue.taking import Taken
from partisan_async.store import notify

_notified: WeakKeyDictionary[BaseDatabaseWrapper, set[tuple[str, str]]] = WeakKeyDictionary()


def wake(queue_name: str, status: str, alias: str, taken: Taken | None = None) -> None:
    """Wake the supervisors of a queue, after the commit: it has rows of this status.

    :param taken: an object to keep alive until the transaction ends.
    """
    # In a transaction NOTIFY takes a lock that all commits of the cluster share, so send it in its
    # own statement after the commit. Register on every call. If we skipped a call because one is
    # already registered, rolling back that one's savepoint would drop the NOTIFY. On commit the
    # first callback notifies; the rest find it done.
    connection = connections[alias]
    if not connection.in_atomic_block and not connection.get_autocommit():
        run(*notify(queue_name, status, within=True), alias)
        return
    _notified.setdefault(connection, set()).clear()

    # No functools.partial: if the NOTIFY fails, Django 5.2 logs the callback's __qualname__. A
    # partial has none, and the AttributeError would look like a failed commit to the caller.
    def notify_once(_: Taken | None = taken) -> None:
        _notify_once(queue_name, status, alias)

    transaction.on_commit(notify_once, using=alias, robust=True)


def _notify_once(queue_name: str, status: str, alias: str) -> None:
    connection = connections[alias]
    done = _notified.setdefault(connection, set())
    if (queue_name, status) not in done:
        done.add((queue_name, status))
        # No Django cursor: it takes longer than the server does, and the site's query counts would
        # include it. prepare=False: two statements in one string cannot be prepared.
        connection.ensure_connection()
        with connection.wrap_database_errors:
            connection.connection.execute(*notify(queue_name, status), prepare=False)
