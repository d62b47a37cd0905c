"""Runs async tasks side by side, on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from asgiref.sync import ThreadSensitiveContext, sync_to_async

from partisan_async import logs
from partisan_async.claim import Claim
from partisan_async.policy import Outcome, Raised
from partisan_async.worker import insides, runs, sessions
from partisan_async.worker.async_limit import finish
from partisan_async.worker.done import done, unknown_outcome
from partisan_async.worker.executor import Executor
from partisan_async.worker.link import Link


class AsyncRuns:
    """The async runs of this process. The first one starts the event loop."""

    def __init__(self, executor: Executor, link: Link) -> None:
        self._executor = executor
        self._link = link
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, ticket: int, claim: Claim, limit: float | None) -> None:
        """Run a task and report its end, unless it is handed back before it starts."""
        loop = self._loop or self._begin_loop()
        asyncio.run_coroutine_threadsafe(self._run(ticket, claim, limit), loop)

    async def _run(self, ticket: int, claim: Claim, limit: float | None) -> None:
        executor = self._executor
        began = time.perf_counter()
        outcome: Outcome | None = None
        run = runs.begin()
        try:
            # A context for each run, as in Django's ASGI handler: else all runs would share one
            # thread and one connection for the ORM.
            async with ThreadSensitiveContext() as context:
                executor.end_forks()  # a child that a task forked would go on in this loop
                if not self._link.start_async(ticket, limit):
                    return
                outcome = await executor.aexecute(claim, limit)
                executor.end_forks()
                if insides.has_thread(context):
                    close = partial(sessions.close_all, failed=isinstance(outcome, Raised))
                    await finish(sync_to_async(sessions.tidy)(close))
        except BaseException as error:  # noqa: BLE001  a late cancellation, too
            outcome = outcome or unknown_outcome(error)
        finally:
            runs.end(run, failed=isinstance(outcome, Raised))
        seconds = time.perf_counter() - began
        overran = limit is not None and seconds >= limit
        frame = done(ticket, seconds, overran, outcome)
        executor.end_forks()
        self._link.send(frame)

    def _begin_loop(self) -> asyncio.AbstractEventLoop:
        self._loop = loop = asyncio.new_event_loop()
        loop.set_default_executor(_Threads(thread_name_prefix="partisan thread"))
        thread = threading.Thread(
            target=_run_for_ever, args=(loop,), name="partisan loop", daemon=True
        )
        thread.start()
        return loop


class _Threads(ThreadPoolExecutor):
    """The executor of ``asyncio.to_thread`` in async tasks: closes connections after each call."""

    def submit(self, call: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        def tidily() -> Any:
            try:
                return call(*args, **kwargs)
            finally:
                sessions.tidy(sessions.close_all)

        return super().submit(tidily)


def _run_for_ever(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    while True:
        try:
            loop.run_forever()
        except BaseException as error:  # noqa: BLE001  it is logged
            # A SystemExit in a task that run() itself created passes through run_forever().
            logs.workers.loop_interrupted(error)
