"""A real supervisor beside the test."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvloop
from asgiref.sync import sync_to_async
from django.db import connections
from django.db.transaction import TransactionManagementError

from partisan_async import registry, store
from partisan_async.models import ENDED, Task
from partisan_async.settings import DEFAULT_QUEUE_NAME, queue_settings
from partisan_async.supervisor.host import Host
from partisan_async.supervisor.supervisor import Supervisor
from partisan_async.worker import taking_on

START_SECONDS = 60

LOOK_EVERY_SECONDS = 0.02

LISTED = 20
"""Maximum number of tasks that a message shows."""


@contextmanager
def live_supervisor(
    queue_name: str = DEFAULT_QUEUE_NAME,
    *,
    listen: bool = True,
    beat_seconds: float = 0.5,
    ttl_seconds: float = 10,
    **settings: Any,
) -> Iterator[Supervisor]:
    """Run a supervisor with its worker processes on the test's database, beside the test.

    The test must commit, so it needs ``TransactionTestCase`` or ``django_db(transaction=True)``.
    Workers must be able to import the processors: from a ``partisan_tasks.py`` of an installed app.

    :param listen: as ``start_partisan`` with ``--async``; ``False``: without.
    :param settings: any of ``QueueSettings`` for this supervisor, such as ``WORKERS_COUNT=1``.
    :raises TransactionManagementError: a transaction is open, and would hide what the test writes.
    """
    if connections[store.database()].in_atomic_block:
        raise TransactionManagementError(
            "live_supervisor() sees only what is committed, and this test runs in a transaction;"
            " use a TransactionTestCase, or @pytest.mark.django_db(transaction=True)."
        )
    taking_on.refuse_within_main()
    registry.autodiscover()
    chosen = dataclasses.replace(queue_settings(queue_name), **settings)
    host = Host(
        {queue_name: chosen}, listen=listen, beat_seconds=beat_seconds, ttl_seconds=ttl_seconds
    )
    thread = _HostThread(host)
    thread.start()
    try:
        thread.wait_until_started()
        yield host.supervisors[0]
    finally:
        thread.stop()


def wait_until_ended(*tasks: Task, timeout_seconds: float = 30) -> None:
    """Wait until these tasks have ended, and refresh them; without tasks: until all have ended.

    :raises AssertionError: some have not ended in time; the message lists them.
    """
    deadline = time.monotonic() + timeout_seconds
    rows = Task.objects.using(store.database())
    if tasks:
        rows = rows.filter(pk__in=[task.pk for task in tasks])
    while left := list(rows.exclude(status__in=ENDED).order_by("pk")[:LISTED]):
        if time.monotonic() > deadline:
            raise AssertionError(
                f"Not ended within {timeout_seconds:g} s: {', '.join(map(str, left))}."
            )
        time.sleep(LOOK_EVERY_SECONDS)
    for task in tasks:
        with suppress(Task.DoesNotExist):  # DELETE_TASKS_ON_COMPLETE
            task.refresh_from_db(using=store.database())


await_until_ended = sync_to_async(wait_until_ended)


class _HostThread(threading.Thread):
    def __init__(self, host: Host) -> None:
        super().__init__(name="live supervisor", daemon=True)
        self._host = host
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._run())
        except BaseException as error:  # noqa: BLE001  it is raised in the test's thread
            self._error = error
        finally:
            self._ready.set()
            connections.close_all()

    def wait_until_started(self) -> None:
        if not self._ready.wait(START_SECONDS):
            raise TimeoutError(f"The supervisor was not up after {START_SECONDS} seconds.")
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        if self._loop is not None:
            # A drained supervisor may have ended and closed its loop: RuntimeError.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._host.stop)
        self.join()
        if self._error is not None:
            raise self._error

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        running = asyncio.ensure_future(self._host.run())
        started = asyncio.ensure_future(self._host.started.wait())
        await asyncio.wait({running, started}, return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if not running.done():
            self._ready.set()
        await running
