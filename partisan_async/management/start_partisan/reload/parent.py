"""The parent: watches the code, and starts one child after the other."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from collections.abc import Iterable
from contextlib import suppress

from django.db import connections

from partisan_async import logs
from partisan_async.management.start_partisan.conditions import NOT_AT_HOME
from partisan_async.management.start_partisan.options import WRONG_OPTION
from partisan_async.management.start_partisan.reload import sight, tie
from partisan_async.management.start_partisan.reload.child import Child
from partisan_async.management.start_partisan.reload.look import Look
from partisan_async.management.start_partisan.reload.sight import Sight
from partisan_async.management.start_partisan.reload.tie import Tie
from partisan_async.management.start_partisan.reload.watchman import Watchman
from partisan_async.supervisor.workers.ending import how_it_ended
from partisan_async.worker.arrangements import STOP_SIGNALS

LOOK_EVERY_SECONDS = 0.5

LOOK_WITH_WATCHMAN_SECONDS = 5.0
"""Interval of the looks that watchman has not asked for."""

SETTLE_SECONDS = 0.1
"""Time without a change after which a child starts: many files may be written at once."""

AGAIN_SECONDS = 2.0
"""Pause before the next child after one that ended by itself, which may do so again."""


def child_or_exit(queue_name: str | None) -> Tie:
    """In a child return its tie; in another process be the parent until a signal, and exit.

    It also exits when all supervisors are drained, and if the very first do not come up, as it
    would without ``--reload``.

    :param queue_name: for log lines; ``None``: there may be several queues.
    """
    if (found := tie.of_this_process()) is not None:
        return found
    connections.close_all()  # which the checks have opened
    logs.fields.serve_here(queue_name, None)
    logs.handlers.attach()
    with asyncio.Runner() as runner:
        sys.exit(runner.run(_Parent().run()))


class _Parent:
    def __init__(self) -> None:
        self._look = Look(sight.of_this_process())
        self._looking = asyncio.Lock()
        self._changed: set[str] = set()
        self._stops = 0
        self._child: Child | None = None
        self._failure: BaseException | None = None
        self._alarm = asyncio.Event()
        """Set when watchman has seen something."""
        self._news = asyncio.Event()
        """Set on a change, and by a signal."""

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        self._watchman = Watchman(lambda: loop.call_soon_threadsafe(self._alarm.set))
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._stop)
        await self._changes()  # of the first look, none
        self._watchman.start(self._look.sight)
        watching = asyncio.ensure_future(self._watch())
        watching.add_done_callback(self._on_end_of_watch)
        try:
            code = await self._keep()
        finally:
            watching.cancel()
        if self._failure is not None:
            raise self._failure
        return code

    async def _keep(self) -> int:
        """Start one child after the other."""
        was_up = False
        while True:
            await self._settle()
            if self._stops:
                return 0
            self._news.clear()
            self._look.child_starts()
            self._child = child = Child(self._on_loaded)
            code = await child.ended()
            self._child = None
            was_up = was_up or child.was_up
            if self._stops:
                return 0 if not child.was_up else _exit_code(code)
            if self._news.is_set():
                continue
            was_told = code == 0 and child.was_up
            if was_told or not was_up:
                return _exit_code(code)
            await self._pause(child, code)

    async def _pause(self, child: Child, code: int) -> None:
        """After the end of a child that nobody told to end: wait for what may mend it."""
        by_its_code = code >= 0 and not child.is_loaded  # below 0: a signal killed it
        if by_its_code or code in (WRONG_OPTION, NOT_AT_HOME):
            logs.reload.waiting_for_a_change()
            await self._news.wait()
            return
        logs.reload.starting_anew(how_it_ended(code), AGAIN_SECONDS)
        with suppress(TimeoutError):
            async with asyncio.timeout(AGAIN_SECONDS):
                await self._news.wait()

    def _stop(self) -> None:
        self._stops += 1
        self._news.set()
        if self._child is not None:
            self._child.stop(at_once=self._stops > 1)

    # Changes

    async def _watch(self) -> None:
        while True:
            runs = self._watchman.runs
            every = LOOK_WITH_WATCHMAN_SECONDS if runs else LOOK_EVERY_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(every):
                    await self._alarm.wait()
            self._alarm.clear()
            if await self._changes():
                self._news.set()
                if self._child is not None:
                    self._child.stop()

    def _on_end_of_watch(self, watching: asyncio.Task[None]) -> None:
        # Whoever goes on without it would miss changes.
        if not watching.cancelled() and (error := watching.exception()) is not None:
            self._failure = error
            self._stop()

    async def _settle(self) -> None:
        """Return when nothing changes, and what was compiled before cannot be taken for new."""
        while await self._changes():  # noqa: ASYNC110  files tell nobody
            await asyncio.sleep(SETTLE_SECONDS)
        _forget_compiled(self._changed)
        self._changed.clear()

    async def _changes(self) -> bool:
        async with self._looking:
            found = await asyncio.to_thread(self._look.changed)
        if found:
            self._changed.update(found)
            logs.reload.changed([_named(path) for path in found])
        return bool(found)

    def _on_loaded(self, seen: Sight) -> None:
        self._look.sight = seen
        self._watchman.watch(seen)


def _forget_compiled(files: Iterable[str]) -> None:
    # Python knows by the second of its source whether it is up to date. A source that is written
    # twice in a second, with the same size, would run as it was at first.
    for path in files:
        if path.endswith(".py"):
            with suppress(OSError, NotImplementedError):
                os.remove(importlib.util.cache_from_source(path))


def _named(path: str) -> str:
    here = os.path.realpath(os.curdir) + os.sep
    return path.removeprefix(here)


def _exit_code(code: int) -> int:
    return code if code >= 0 else 128 - code
