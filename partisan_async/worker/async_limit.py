"""Ends an async run at its time limit: cancels the run, and its query under way."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from partisan_async.postgres import cancelling
from partisan_async.worker.async_queries import cancel_queries
from partisan_async.worker.limits import AGAIN_EVERY_SECONDS, timeout_from


async def run_within(seconds: float | None, run: Coroutine[Any, Any, None]) -> BaseException | None:
    """Return what an async run raised, ``TaskTimeout`` after its time limit, or ``None``.

    The run has an asyncio task of its own. Whatever ends that task, the caller goes on and can
    report how the run ended.
    """
    raised: BaseException | None = asyncio.CancelledError("before it began")

    async def catch() -> None:
        # Catch it here: a SystemExit that leaves its asyncio task ends the event loop.
        nonlocal raised
        try:
            await run
            raised = None
        except BaseException as error:  # noqa: BLE001
            raised = error

    running = asyncio.ensure_future(catch())
    await _wait_for(running, seconds)
    if running.done() or seconds is None:
        return raised
    while not running.done():
        running.cancel()
        await cancel_queries()
        await _wait_for(running, AGAIN_EVERY_SECONDS)
    if isinstance(raised, asyncio.CancelledError) or _is_canceled_query(raised):
        return timeout_from(seconds, raised)
    return raised


async def finish(tidying: Coroutine[Any, Any, None]) -> None:
    """Wait for the cleanup after a run, in the run's thread for the ORM.

    A thread cannot be cancelled, but the query that it waits for can.
    """
    finishing = asyncio.ensure_future(tidying)
    await _wait_for(finishing, AGAIN_EVERY_SECONDS)
    while not finishing.done():
        await cancel_queries()
        await _wait_for(finishing, AGAIN_EVERY_SECONDS)


async def _wait_for(running: asyncio.Future[Any], seconds: float | None) -> None:
    deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
    while not running.done():
        left = None
        if deadline is not None:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return
        # Code that cancels all asyncio tasks must not end this one.
        with suppress(asyncio.CancelledError):
            await asyncio.wait({running}, timeout=left)


def _is_canceled_query(error: BaseException | None) -> bool:
    return error is not None and cancelling.comes_from_cancel(error.__cause__)
