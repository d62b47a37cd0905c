"""The child's end of the tie to its parent: the child obeys its words, and ends with it.

The child says ``loaded``, with what is to be watched, when it has imported the code. It asks by
``up`` whether it may start, and waits for the answer: until then, the parent may kill it. A signal
of the terminal comes to both, so the child takes one for a stop, and leaves it to the parent to
count them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

from partisan_async.management.start_partisan.reload import sight
from partisan_async.worker.arrangements import STOP_SIGNALS

VARIABLE = "PARTISAN_ASYNC_RELOAD"
"""Names the tie's file descriptor to the child."""

LOADED, UP = b"loaded", b"up"
"""The words of the child."""

GO, STOP, AT_ONCE = b"g", b"s", b"n"
"""The words of the parent."""


def of_this_process() -> Tie | None:
    """Return the tie, if this process is a child."""
    # Removed, for the processes that this one starts are none.
    number = os.environ.pop(VARIABLE, None)
    return None if number is None else Tie(socket.socket(fileno=int(number)))


class Tie:
    """The tie of this process.

    :param parent: the socket at whose other end the parent is.
    """

    def __init__(self, parent: socket.socket) -> None:
        self._parent = parent
        self._parent.set_inheritable(False)
        self._is_stopping = False

    def tell_loaded(self) -> None:
        """Tell the parent that the code is imported, and what to watch."""
        self._say(LOADED + b" " + sight.of_this_process().encoded())

    def obey(self, stop: Callable[[], None]) -> bool:
        """From now on stop as the parent says; return whether the supervisor may start.

        Call it in the event loop.

        :param stop: stops the supervisor, and at once if it is called twice.
        """
        self._stop_supervisor = stop
        self._loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            self._loop.add_signal_handler(number, self._stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # the parent had them blocked
        self._say(UP)
        if self._parent.recv(1) != GO:
            return False
        self._parent.setblocking(False)
        self._loop.add_reader(self._parent, self._on_words)
        return True

    def _say(self, words: bytes) -> None:
        with suppress(OSError):  # the parent is gone, which is noticed when it is to answer
            self._parent.sendall(words + b"\n")

    def _on_words(self) -> None:
        words = b""
        with suppress(OSError):
            words = self._parent.recv(16)
        if not words:
            self._loop.remove_reader(self._parent)
        self._stop()
        if AT_ONCE in words:
            self._stop_supervisor()

    def _stop(self) -> None:
        if not self._is_stopping:
            self._is_stopping = True
            self._stop_supervisor()
