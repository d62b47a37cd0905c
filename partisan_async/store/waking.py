"""Wakes the supervisors of a queue, by NOTIFY, and after the commit."""

from __future__ import annotations

import hashlib
from weakref import WeakKeyDictionary

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from partisan_async.enqueue.taking import Taken
from partisan_async.store.statement import Statement

HELD_NO_MORE = "held"
"""Said by NOTIFY: rows that supervisors hold were taken from them by hand."""

STEERED = "steered"
"""Said by NOTIFY: the queue was paused or resumed, a supervisor is to drain, or a schedule was
switched: a look at the rows tells."""


_notified: WeakKeyDictionary[BaseDatabaseWrapper, set[tuple[str, str]]] = WeakKeyDictionary()


def wake(queue_name: str, status: str, alias: str, taken: Taken | None = None) -> None:
    """Wake the supervisors of a queue, after the commit: rows of this status are there.

    :param taken: what is to last as long as the transaction.
    """
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
    def notify_once(_: Taken | None = taken) -> None:
        _notify_once(queue_name, status, alias)

    transaction.on_commit(notify_once, using=alias, robust=True)


def channel(queue_name: str) -> str:
    """Return the NOTIFY channel of a queue: its name, or where that is too long, its hash."""
    name = f"partisan_async.{queue_name}"
    if len(name.encode()) < 64:
        return name
    return f"partisan_async.{hashlib.sha256(queue_name.encode()).hexdigest()[:40]}"


def notify(queue_name: str, status: str = "", *, within: bool = False) -> Statement:
    """Wake the supervisors of a queue: rows of this status are there, or of any.

    :param within: in a transaction that writes, too, and not in one of its own.
    """
    # Its commit would wait for the disk, with a lock that all commits with a NOTIFY share; but
    # after a crash nobody listens any more. pg_notify() takes the server longer: it is planned.
    hurry = "" if within else "SET LOCAL synchronous_commit = off; "
    name = channel(queue_name).replace('"', '""').replace("%", "%%")
    return Statement(f"""{hurry}NOTIFY "{name}", '{status}'""", {})


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
