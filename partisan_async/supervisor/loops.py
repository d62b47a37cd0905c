"""The loops of a supervisor: what runs for as long as it lives, and what the end of one means.

A *part's* loop is needed: an error that ends it ends the supervisor. One *beside* does what no task
waits for: it is begun anew, and ends nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from partisan_async import logs

BESIDE_AGAIN_SECONDS = 30.0
"""Time after which what is done beside the tasks, and failed, is begun anew."""


class Loops:
    """The loops of one supervisor.

    :param on_failure: called with the error that ended a part, or a callback of one.
    """

    def __init__(self, on_failure: Callable[[BaseException], None]) -> None:
        self._on_failure = on_failure
        self._loops: list[asyncio.Task[None]] = []

    def keep(self, loop: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a part's loop until it ends or ``end()``."""
        task = asyncio.ensure_future(loop)
        task.add_done_callback(self._on_end)
        self._loops.append(task)
        return task

    def keep_beside(self, what: str, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a loop beside the parts; ``what``: what it sees to, as log lines say it."""
        self.keep(_keep_beside(what, loop))

    def on_callback_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Take an error that asyncio has nobody to tell of: that of a callback is a part's."""
        error = context.get("exception")
        if error is not None and ("handle" in context or "protocol" in context):
            self._on_failure(error)
        else:
            loop.default_exception_handler(context)

    async def end(self) -> None:
        """End them all."""
        # More than once: before 3.3.9, and on Python 3.11, psycopg loses a cancel that comes with a
        # notification, as the one of a supervisor's leave does.
        ending = set(self._loops)
        while ending:
            for loop in ending:
                loop.cancel()
            _, ending = await asyncio.wait(ending, timeout=1)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._on_failure(error)


async def _keep_beside(what: str, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
    while True:
        try:
            await loop()
        except Exception as error:  # noqa: BLE001  whatever befalls it ends nothing else
            logs.supervisor.side_work_failed(what, BESIDE_AGAIN_SECONDS, error)
            await asyncio.sleep(BESIDE_AGAIN_SECONDS)
        else:
            return
