"""A real supervisor beside the test."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvloop
from django.db import connections

from partisan_async import registry
from partisan_async.settings import DEFAULT_QUEUE_NAME, queue_settings
from partisan_async.supervisor.supervisor import Supervisor

START_SECONDS = 60


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

    The test must commit, so it wants ``TransactionTestCase`` or ``django_db(transaction=True)``,
    and processors must be importable by the workers: in a ``partisan_tasks.py`` of an installed
    app.

    :param listen: as ``start_partisan --async``; else as without.
    :param settings: any of ``QueueSettings`` for this supervisor, such as ``WORKERS_COUNT=1``.
    """
    registry.autodiscover()
    chosen = dataclasses.replace(queue_settings(queue_name), **settings)
    supervisor = Supervisor(
        queue_name, chosen, listen=listen, beat_seconds=beat_seconds, ttl_seconds=ttl_seconds
    )
    thread = _SupervisorThread(supervisor)
    thread.start()
    try:
        thread.wait_until_started()
        yield supervisor
    finally:
        thread.stop()


class _SupervisorThread(threading.Thread):
    def __init__(self, supervisor: Supervisor) -> None:
        super().__init__(name="live supervisor", daemon=True)
        self._supervisor = supervisor
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
        if self._loop is not None and self.is_alive():
            self._loop.call_soon_threadsafe(self._supervisor.stop)
        self.join()
        if self._error is not None:
            raise self._error

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        running = asyncio.ensure_future(self._supervisor.run())
        started = asyncio.ensure_future(self._supervisor.started.wait())
        await asyncio.wait({running, started}, return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if not running.done():
            self._ready.set()
        await running
