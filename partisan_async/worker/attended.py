"""Notices when a thread asks for one of Django's connections.

``sessions`` cleans the main thread's connections after each run. In other *threads* that outlive a
run, such as asgiref's under ``asyncio.run()`` or a pool of the project's own, only the thread
itself may touch its connections: they are cleaned when it next asks for one. ``abandoned`` hangs up
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
        # Before each cursor, and before a transaction begins.
        wrapper.ensure_connection = self._ensure_connection  # type: ignore[method-assign]
        if wrapper.settings_dict["OPTIONS"].get("pool"):
            wrapper._close = self._return_as_new  # type: ignore[attr-defined]  # noqa: SLF001
        if self._is_of_main_thread:
            of_main_thread.add(self)
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
        if is_in_transaction(wrapper):
            # If one of the two is unknown, the thread may be in the midst of something.
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
"""What Django has made for the main thread's connections: to ask it for them takes as long as all
else that is done for a short task."""


def watch() -> None:
    """Attend to all of Django's connections from now on; call it in the main thread."""
    # Not by the signal of a new connection: if its first statements fail the signal is not sent,
    # and Django keeps the connection.
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
    """Do not attend to new connections any more: in a child that a task forked."""
    vars(connections).pop("create_connection", None)
