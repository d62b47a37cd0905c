"""Notices when a thread asks for one of Django's connections.

``sessions`` cleans the main thread's connections after each run. Other threads may outlive a run,
such as asgiref's under ``asyncio.run()`` or a thread pool of the project. Only the thread itself
may use its connections, so each is cleaned when its thread next asks for it. ``abandoned`` hangs up
those that no run uses any more.
"""

from __future__ import annotations

import threading
from weakref import WeakSet

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from partisan_async import logs
from partisan_async.context import CurrentTask, current_task
from partisan_async.postgres import renewal
from partisan_async.worker import abandoned, runs
from partisan_async.worker.session import give_up, is_in_transaction, make_new


class AttendedConnection:
    """One of Django's connections, which is cleaned when its thread asks for it in another run."""

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
        # Django calls it before each cursor, and before a transaction begins.
        wrapper.ensure_connection = self._ensure_connection  # type: ignore[method-assign]
        if wrapper.settings_dict["OPTIONS"].get("pool"):
            wrapper._close = self._return_as_new  # type: ignore[attr-defined]  # noqa: SLF001
        if self._is_of_main_thread:
            of_main_thread.add(self)
        else:
            abandoned.attend(self)

    def _ensure_connection(self) -> None:
        self.left_since = None
        if self._connects:  # Django calls this again while it sets up a new connection
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
        if is_in_transaction(wrapper):
            # If either task is unknown, the thread may be in the middle of its own work.
            if task and self._task and task != self._task:
                who = f"task {task.id} {task.processor_class}"
                logs.sessions.rolled_back(who, wrapper.alias)
                wrapper.in_atomic_block = False
                give_up(wrapper)
        elif self.is_of_run and not runs.goes_on(last):
            wrapper.queries_log.clear()
            make_new(wrapper, failed=runs.has_failed(last))
        elif not wrapper.is_usable():
            wrapper.close()

    def _return_as_new(self) -> None:
        if self.wrapper.connection is not None and not renewal.renew(self.wrapper):
            self.wrapper.connection.close()
        self._close()


of_main_thread: WeakSet[AttendedConnection] = WeakSet()
"""The main thread's connections. Kept here, as to ask Django for them takes as long as everything
else that is done for a short task."""


def watch() -> None:
    """Attend to all of Django's connections from now on. Call it in the main thread."""
    # Not by the signal ``connection_created``: if the first statements of a connection fail, Django
    # keeps the connection and sends no signal.
    make = connections.create_connection

    def create_connection(alias: str) -> BaseDatabaseWrapper:
        wrapper = make(alias)
        AttendedConnection(wrapper)
        return wrapper

    connections.create_connection = create_connection  # type: ignore[method-assign]
    for wrapper in connections.all(initialized_only=True):
        AttendedConnection(wrapper)
    renewal.watch()


def unwatch() -> None:
    """In a child that a task forked: stop attending to new connections."""
    vars(connections).pop("create_connection", None)
