"""The database sessions of a worker: what a run finds in them, and what becomes of what it leaves.

A run finds connections that work, and each session as new. The main thread runs one task after the
other: its connections are seen to after each run. In other *threads* that outlive a run, such as
asgiref's under ``asyncio.run()`` or a pool of the project's own, only the thread itself may touch
its connections: they are seen to when it next asks for one, and what no run uses any more is hung
up by ``abandoned``. Async runs, and the threads of their event loop, close what they opened.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import psycopg
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.pq import TransactionStatus

from partisan_async import logs
from partisan_async.context import CurrentTask, current_task
from partisan_async.postgres import renewal
from partisan_async.worker import abandoned, runs

if TYPE_CHECKING:
    from partisan_async.claim import Claim

_IN_NO_TRANSACTION = (TransactionStatus.IDLE, TransactionStatus.UNKNOWN)


class _Attended:
    """One of Django's connections: it tells when its thread asks for it."""

    def __init__(self, wrapper: BaseDatabaseWrapper) -> None:
        self.wrapper = wrapper
        self.run = 0
        self.is_of_run = False
        self.left_since: float | None = None
        self._task: CurrentTask | None = None
        self._connects = False
        self._connect = wrapper.ensure_connection
        self._close = wrapper._close  # type: ignore[attr-defined]  # noqa: SLF001
        self._is_of_main_thread = threading.current_thread() is threading.main_thread()
        # Before each cursor, and before a transaction begins.
        wrapper.ensure_connection = self._ensure_connection  # type: ignore[method-assign]
        if wrapper.settings_dict["OPTIONS"].get("pool"):
            wrapper._close = self._return_as_new  # type: ignore[attr-defined]  # noqa: SLF001
        if self._is_of_main_thread:
            _of_main_thread.add(self)
        else:
            abandoned.attend(self)

    def _ensure_connection(self) -> None:
        self.left_since = None
        if self._connects:  # Django asks for it again while it sets it up
            return
        if self.run != runs.latest:
            last, self.run = self.run, runs.latest
            if not self._is_of_main_thread:
                self._enter_run(last)
        if self.wrapper.connection is None:
            self.is_of_run = runs.goes_on(self.run)
        self._connects = True
        try:
            self._connect()
        finally:
            self._connects = False

    def _enter_run(self, last: int) -> None:
        wrapper = self.wrapper
        task, self._task = self._task, current_task.get()
        if wrapper.connection is None:
            return
        if _is_in_transaction(wrapper):
            # Without knowing both, it may be a thread in the midst of something.
            if task and self._task and task != self._task:
                _say_rolled_back(f"task {task.id} {task.processor_class}", wrapper)
                wrapper.in_atomic_block = False
                _give_up(wrapper)
        elif self.is_of_run and not runs.goes_on(last):
            wrapper.queries_log.clear()
            _make_new(wrapper, failed=runs.has_failed(last))
        elif not wrapper.is_usable():
            wrapper.close()

    def _return_as_new(self) -> None:
        if self.wrapper.connection is not None and not renewal.renew(self.wrapper):
            self.wrapper.connection.close()
        self._close()


_of_main_thread: WeakSet[_Attended] = WeakSet()
"""What Django has made for the main thread's connections: to ask it for them takes as long as all
else that is done for a short task."""


def watch() -> None:
    """Attend to all of Django's connections from now on; call it in the main thread."""
    # The signal of a new connection would not do: it is not sent where its first statements fail,
    # and Django keeps such a one.
    make = connections.create_connection

    def create_connection(alias: str) -> BaseDatabaseWrapper:
        wrapper = make(alias)
        _Attended(wrapper)
        return wrapper

    connections.create_connection = create_connection  # type: ignore[method-assign]
    for wrapper in connections.all(initialized_only=True):
        _Attended(wrapper)
    renewal.watch()


def unwatch() -> None:
    """Attend to no connection that is made from now on: in a child that a task forked."""
    vars(connections).pop("create_connection", None)


def tidy(see_to: Callable[..., None], *arguments: Any) -> None:
    """See to connections; those that cannot be seen to are forgotten, and the next task gets new
    ones."""
    try:
        see_to(*arguments)
    except BaseException as error:  # noqa: BLE001  it is logged
        logs.sessions.not_closed(error)
        for wrapper in connections.all(initialized_only=True):
            _forget(wrapper)


def close_old() -> None:
    """Close connections of the main thread that are spent."""
    for attended in list(_of_main_thread):
        attended.wrapper.close_if_unusable_or_obsolete()


def close_all(*, failed: bool = False) -> None:
    """Close all connections of this thread.

    :param failed: the run raised an error: what Django would give to a pool is closed, too.
    """
    for wrapper in connections.all(initialized_only=True):
        if failed:
            _give_up(wrapper)
        else:
            wrapper.close()


def forget_all() -> None:
    """Give up all connections of this thread, and the state that Django believes them to be in."""
    for wrapper in connections.all(initialized_only=True):
        wrapper.close()
        _forget(wrapper)


def end_run(claim: Claim, run: int, failed: bool) -> None:
    """Make the main thread's connections such as the next run is to find them.

    :param run: the number of the run that ends.
    :param failed: it raised an error: that may have been the session's fault.
    """
    for attended in list(_of_main_thread):
        wrapper = attended.wrapper
        if wrapper.queries_log:
            wrapper.queries_log.clear()
        if wrapper.connection is None:
            continue
        if _is_in_transaction(wrapper):
            _say_rolled_back(f"task {claim.id} {claim.processor_class}", wrapper)
            wrapper.close()
            _forget(wrapper)
        elif attended.run < run:
            wrapper.close_if_unusable_or_obsolete()
        else:
            _make_new(wrapper, failed=failed)


def _make_new(wrapper: BaseDatabaseWrapper, *, failed: bool) -> None:
    if failed or wrapper.errors_occurred:
        _give_up(wrapper)
        return
    wrapper.close_if_unusable_or_obsolete()
    if wrapper.connection is not None and not renewal.renew(wrapper):
        wrapper.close()


def _is_in_transaction(wrapper: BaseDatabaseWrapper) -> bool:
    # Without autocommit one begins with the next statement, whichever that is.
    if wrapper.in_atomic_block or wrapper.autocommit != wrapper.settings_dict["AUTOCOMMIT"]:
        return True
    if not isinstance(wrapper.connection, psycopg.Connection):
        return False
    return wrapper.connection.pgconn.transaction_status not in _IN_NO_TRANSACTION


def _say_rolled_back(who: str, wrapper: BaseDatabaseWrapper) -> None:
    logs.sessions.rolled_back(who, wrapper.alias)


def _give_up(wrapper: BaseDatabaseWrapper) -> None:
    if isinstance(wrapper.connection, psycopg.Connection):
        wrapper.connection.close()  # or Django may give it to a pool
    wrapper.close()


def _forget(wrapper: BaseDatabaseWrapper) -> None:
    """Have Django make another in its place: it is lost with the state of its atomic blocks."""
    for attended in list(_of_main_thread):
        if attended.wrapper is wrapper:
            _of_main_thread.discard(attended)
    if wrapper in connections.all(initialized_only=True):  # the task may have done so
        del connections[wrapper.alias]
