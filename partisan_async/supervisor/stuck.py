"""Lets the process end although a log handler is stuck.

At its end Python flushes stdout and stderr and closes all handlers, and would wait for each.
"""

from __future__ import annotations

import atexit
import logging
import os
import select
import signal
import threading
import weakref
from contextlib import suppress
from types import FrameType

LET_GO_SECONDS = 1.0
"""Time limit of each further step of the end, if a handler is stuck."""


def spare_the_stuck(thread: int | None) -> None:
    """Redirect a stuck stdout or stderr to nowhere.

    :param thread: the thread that may be stuck in writing. It holds a lock that the interpreter's
        end needs; a signal interrupts the write, whose next attempt then succeeds.
    """
    stuck = [stream for stream in (1, 2) if not _takes_more(stream)]
    if not stuck:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in stuck:
        os.dup2(nowhere, stream)
    os.close(nowhere)
    if thread is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGURG, _wake)  # a signal that nothing else uses
        signal.pthread_kill(thread, signal.SIGURG)


def _wake(number: int, frame: FrameType | None) -> None:
    """Do nothing: the signal has interrupted the write."""


def _takes_more(stream: int) -> bool:
    poll = select.poll()
    try:
        poll.register(stream, select.POLLOUT)
        return bool(poll.poll(LET_GO_SECONDS * 1000))
    except OSError:
        return True  # it is closed


def shut_logging_down() -> None:
    """Close all handlers except those that are stuck, for which Python would wait at its exit."""
    handlers = _handlers()
    if handlers is None:
        return  # Python's own way, then
    atexit.unregister(logging.shutdown)
    for handler in reversed(handlers):
        closing = threading.Thread(target=_close, args=(handler,), daemon=True)
        closing.start()
        closing.join(LET_GO_SECONDS)


def _close(handler: logging.Handler) -> None:
    with suppress(Exception):
        handler.flush()
        handler.close()


def _handlers() -> list[logging.Handler] | None:
    """Return all handlers, in the order in which they were made; ``None``: that is not known.

    ``logging`` keeps weak references to them for its own shutdown, and does not document that.
    """
    kept = vars(logging).get("_handlerList")
    if not isinstance(kept, list):
        return None
    found = [each() if isinstance(each, weakref.ref) else None for each in kept]
    return [each for each in found if isinstance(each, logging.Handler)]
