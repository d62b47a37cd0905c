"""Puts all log handlers of this process behind one queue, so that one that blocks delays nobody.

A handler belongs to the project, and may block for long: on a pipe that nobody reads, or on a log
server that does not answer. A *line* is one call of a handler's logger. One thread
handles all lines, in order, each with the context that it was logged in. When too many lines wait,
more are dropped and counted; as soon as lines flow again, a line of its own tells the count.
"""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from partisan_async import logs
from partisan_async.supervisor.aside import Aside
from partisan_async.supervisor.said import fixed
from partisan_async.supervisor.stuck import LET_GO_SECONDS, shut_logging_down, spare_the_stuck

MOST_LINES = 10_000
"""Maximum number of lines that wait."""

PATIENCE_SECONDS = 0.5
"""Time that slow handlers may delay the code that logs, in sum, before lines are dropped."""

EARNED_SECONDS = 0.001
"""Patience that each handled line restores: handlers that take less time per line never lose one.
"""

DRAIN_SECONDS = 2.0
"""Time that waiting lines get at the end of the process."""


@contextmanager
def handlers_behind_a_queue() -> Iterator[LogQueue]:
    """Have all lines go through a queue within the block; for the main thread.

    At the end of the block the queue is drained, within limits: a handler that is stuck does not
    keep the process from its exit.
    """
    queue = LogQueue()
    handle, show = logging.Logger.handle, warnings.showwarning

    def put(self: logging.Logger, record: logging.LogRecord) -> None:
        if queue.is_here:  # what handlers themselves log
            handle(self, record)
        else:
            queue.put(handle, self, fixed(record))

    def put_warning(*arguments: Any, **named: Any) -> None:
        queue.put(lambda: show(*arguments, **named))

    # Not handler by handler: some are added later, and error trackers hook into this class. The
    # logger's filters run behind the queue, too.
    logging.Logger.handle = put  # type: ignore[method-assign]
    warnings.showwarning = put_warning
    try:
        yield queue
    finally:
        logging.Logger.handle = handle  # type: ignore[method-assign]
        warnings.showwarning = show
        queue.close()


class LogQueue:
    """Lines that wait for their handlers, and the thread that calls the handlers."""

    def __init__(self) -> None:
        self.dropped = 0
        """Number of dropped lines that no line has told of yet."""
        self._aside = Aside("partisan logs")
        self._patience = PATIENCE_SECONDS
        self._dropping = threading.Lock()

    @property
    def is_here(self) -> bool:
        """Whether the caller runs within a line's handler."""
        return self._aside.is_here

    def put(self, handle: Callable[..., object], *arguments: Any) -> None:
        """Have a line handled, or drop it."""
        if len(self._aside) >= MOST_LINES and not self._wait_for_room():
            with self._dropping:
                self.dropped += 1
            return
        self._aside.call(self._handle, handle, arguments)

    def close(self) -> None:
        """Have the waiting lines handled, within limits; make sure that the process can end."""
        drained = self._aside.close(DRAIN_SECONDS)
        if drained and self.dropped:
            self._tell_of_dropped()
        spare_the_stuck(None if drained else self._aside.ident)
        if not drained and not self._aside.close(LET_GO_SECONDS):
            shut_logging_down()

    def _handle(self, handle: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        handle(*arguments)
        self._patience = min(PATIENCE_SECONDS, self._patience + EARNED_SECONDS)
        if self.dropped and len(self._aside) < MOST_LINES // 2:
            self._tell_of_dropped()

    def _wait_for_room(self) -> bool:
        # Handlers that are only slow delay the code that logs, as they would without a queue, but
        # never for long. The sleep also gives up the interpreter's lock: without that the handlers
        # would starve.
        while len(self._aside) >= MOST_LINES:
            if self._patience <= 0:
                return False
            began = time.monotonic()
            time.sleep(EARNED_SECONDS)
            self._patience -= time.monotonic() - began
        return True

    def _tell_of_dropped(self) -> None:
        with self._dropping:
            dropped, self.dropped = self.dropped, 0
        logs.handlers.dropped(dropped)
