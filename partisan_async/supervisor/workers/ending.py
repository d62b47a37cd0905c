"""Waits for the exit of a worker process, kills it if that takes too long, and explains it."""

from __future__ import annotations

import asyncio
import signal
import threading

from partisan_async.supervisor.workers import forkserver
from partisan_async.supervisor.workers.child import Child
from partisan_async.worker import ending

EXIT_SECONDS = ending.SECONDS + 2
"""Time after which an idle worker that has not ended is killed."""


async def wait_for_exit(child: Child) -> int | None:
    """Return the exit code of a process that was told to end or has died."""
    exiting = asyncio.get_running_loop().run_in_executor(None, child.wait)
    done, _ = await asyncio.wait({exiting}, timeout=EXIT_SECONDS)
    if not done:
        # Its own time limit did not end it: a task may hold the interpreter's lock.
        child.signal(signal.SIGKILL)
        done, _ = await asyncio.wait({exiting}, timeout=EXIT_SECONDS)
    if not done:
        # The forkserver is stuck. Not in the loop's executor: all its threads may wait for workers.
        threading.Thread(target=forkserver.stop, daemon=True).start()
    return await exiting


def how_it_ended(code: int | None) -> str:
    """Return an exit code in words; ``None``: unknown."""
    if code is None:
        return "ended"
    if code >= 0:
        return f"exited with code {code}"
    names = {number.value: number.name for number in signal.Signals}
    return f"was killed by {names.get(-code, f'signal {-code}')}"
