"""Runs the loops of a supervisor or its host, and decides what the end of one means.

A *part's* loop is needed: its error ends the host. A loop *beside* the parts does work that
no task waits for: after an error it is started again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from partisan_async import logs

BESIDE_AGAIN_SECONDS = 30.0
"""Time after which a loop beside the parts that failed is started again."""


class Loops:
    """The loops of one supervisor, or of the host.

    :param on_failure: called with the error that ended a part's loop or callback.
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
        """Run a loop beside the parts; ``what``: what it does, as log lines say it."""
        self.keep(_keep_beside(what, loop))

    def on_callback_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle an error that no code awaits: an error of a callback counts as a part's."""
        error = context.get("exception")
        if error is not None and ("handle" in context or "protocol" in context):
            self._on_failure(error)
        else:
            loop.default_exception_handler(context)

    async def end(self) -> None:
        """End all loops."""
        # Cancel more than once: psycopg before 3.3.9, and on Python 3.11, loses a cancel that
        # arrives together with a notification, such as that of a supervisor's leave.
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
        except Exception as error:  # noqa: BLE001  no error here may end the supervisor
            logs.supervisor.side_work_failed(what, BESIDE_AGAIN_SECONDS, error)
            await asyncio.sleep(BESIDE_AGAIN_SECONDS)
        else:
            return
