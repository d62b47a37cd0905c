"""Puts all log handlers of this process behind one queue: one that blocks holds nobody up.

A handler belongs to the project, and may block as long as it likes: a pipe that nobody reads, a
log server that does not answer. A *line* is one call of a handler's logger. All are handled in one
thread, in their order, with the context that they came from. When too many wait, lines are dropped
and counted, and the count is a line of its own as soon as they flow again.
"""

from __future__ import annotations

import atexit
import logging
import os
import select
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from numbers import Number
from types import FrameType
from typing import Any
from uuid import UUID

from partisan_async import logs
from partisan_async.supervisor.aside import Aside

MOST_LINES = 10_000
"""So many lines may wait."""

PATIENCE_SECONDS = 0.5
"""So long handlers that cannot keep up may hold up who logs, before lines are dropped."""

EARNED_SECONDS = 0.001
"""Of that, what each line that is handled gives back: handlers this fast lose no line, ever."""

DRAIN_SECONDS = 2.0
"""So long the lines that wait may take at the end, and then a line that is under way."""

LET_GO_SECONDS = 1.0
"""So long each further step of an end may take, where a handler is stuck."""

_PLAIN = (str, int, float, Number, bytes, type(None), date, timedelta, UUID, type)
"""What reads the same whenever it is formatted."""


@contextmanager
def handlers_behind_a_queue() -> Iterator[LogQueue]:
    """Have all lines go through a queue meanwhile; for the main thread.

    In the end they are waited for, but not for long, and no handler that is stuck keeps the
    process from its exit.
    """
    queue = LogQueue()
    handle, show = logging.Logger.handle, warnings.showwarning

    def put(self: logging.Logger, record: logging.LogRecord) -> None:
        if queue.is_here:  # what handlers themselves log
            handle(self, record)
        else:
            queue.put(handle, self, _fixed(record))

    def put_warning(*arguments: Any, **named: Any) -> None:
        queue.put(lambda: show(*arguments, **named))

    # Not the handlers one by one: some are added later, and error trackers have this class call
    # them. What stands before the handlers, filters and levels, goes with it.
    logging.Logger.handle = put  # type: ignore[method-assign]
    warnings.showwarning = put_warning
    try:
        yield queue
    finally:
        logging.Logger.handle = handle  # type: ignore[method-assign]
        warnings.showwarning = show
        queue.close()


class LogQueue:
    """Lines that wait for their handlers, and the thread that calls these."""

    def __init__(self) -> None:
        self.dropped = 0
        """How many lines were, and nobody was told yet."""
        self._aside = Aside("partisan logs")
        self._patience = PATIENCE_SECONDS
        self._dropping = threading.Lock()

    @property
    def is_here(self) -> bool:
        """Whether the code that asks is called by a line's handler."""
        return self._aside.is_here

    def put(self, handle: Callable[..., object], *arguments: Any) -> None:
        """Have a line handled, or drop it."""
        if len(self._aside) >= MOST_LINES and not self._wait_for_room():
            with self._dropping:
                self.dropped += 1
            return
        self._aside.call(self._handle, handle, arguments)

    def close(self) -> None:
        """Have what waits handled, within limits; see to it that the process can end."""
        drained = self._aside.close(DRAIN_SECONDS)
        if drained and self.dropped:
            self._tell_of_dropped()
        _spare_the_stuck(None if drained else self._aside.ident)
        if not drained and not self._aside.close(LET_GO_SECONDS):
            _shut_logging_down()

    def _handle(self, handle: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        handle(*arguments)
        self._patience = min(PATIENCE_SECONDS, self._patience + EARNED_SECONDS)
        if self.dropped and len(self._aside) < MOST_LINES // 2:
            self._tell_of_dropped()

    def _wait_for_room(self) -> bool:
        # Handlers that are only slow hold up who logs, as they would without a queue, but never
        # for long. It also gives up the interpreter's lock, without which they would starve.
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


def _fixed(record: logging.LogRecord) -> logging.LogRecord:
    """Have a record say what it says now, though it is formatted later."""
    arguments = record.args
    if isinstance(arguments, Mapping):
        record.args = {name: _as_it_is(value) for name, value in arguments.items()}
    elif arguments:
        record.args = tuple(map(_as_it_is, arguments))
    if not isinstance(record.msg, str):
        record.msg = _as_it_is(record.msg)
    return record


def _as_it_is(value: object) -> object:
    if isinstance(value, _PLAIN):
        return value
    try:
        return _Said(str(value), repr(value))
    except Exception:  # noqa: BLE001  logging itself tells of it, when it meets it
        return value


class _Said:
    """What an argument's texts were when it was logged."""

    def __init__(self, text: str, representation: str) -> None:
        self._text = text
        self._representation = representation

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return self._representation


# The end: Python writes out its two streams, and closes all handlers, and would wait for each.


def _spare_the_stuck(thread: int | None) -> None:
    """Have what is still written to a stuck stdout or stderr go nowhere.

    :param thread: the one that may be stuck there. It holds a lock that the interpreter's end
        needs: a signal has it write again, which then succeeds.
    """
    stuck = [stream for stream in (1, 2) if not _takes_more(stream)]
    if not stuck:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in stuck:
        os.dup2(nowhere, stream)
    os.close(nowhere)
    if thread is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGURG, _wake)  # one that nothing else is asked by
        signal.pthread_kill(thread, signal.SIGURG)


def _wake(number: int, frame: FrameType | None) -> None:
    """Do nothing: it has come."""


def _takes_more(stream: int) -> bool:
    poll = select.poll()
    try:
        poll.register(stream, select.POLLOUT)
        return bool(poll.poll(LET_GO_SECONDS * 1000))
    except OSError:
        return True  # it is closed


def _shut_logging_down() -> None:
    """Close all handlers but those that are stuck; Python, at its exit, would wait for these."""
    atexit.unregister(logging.shutdown)
    handlers = [found for each in vars(logging)["_handlerList"] if (found := each())]
    for handler in reversed(handlers):
        closing = threading.Thread(target=_close, args=(handler,), daemon=True)
        closing.start()
        closing.join(LET_GO_SECONDS)


def _close(handler: logging.Handler) -> None:
    with suppress(Exception):
        handler.flush()
        handler.close()
