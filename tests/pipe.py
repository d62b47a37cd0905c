"""A pipe that log lines go through, whose reader can stall."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from contextlib import suppress

ROOM_BYTES = 4096
"""The least that a pipe can hold: it is soon full."""


class StallingPipe:
    """What is written to ``entrance`` goes to a file, until ``stall()`` and from ``flow()`` on.

    :param sink: the file descriptor to write to.
    """

    def __init__(self, sink: int) -> None:
        self._exit, self.entrance = os.pipe()
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            fcntl.fcntl(self.entrance, fcntl.F_SETPIPE_SZ, ROOM_BYTES)
        self._flows = threading.Event()
        self._flows.set()
        self._holds = threading.Event()
        self._sink = os.dup(sink)
        threading.Thread(target=self._pump, daemon=True).start()

    def stall(self) -> None:
        """Read no more, and leave no room: the next who writes blocks."""
        self._flows.clear()
        # Another open file: not to block is a property of it, and the writers share theirs.
        filling = os.open(f"/dev/fd/{self.entrance}", os.O_WRONLY | os.O_NONBLOCK)
        try:
            # It may be in the middle of a last look, and makes room by it.
            while not self._holds.is_set():
                _fill(filling)
                time.sleep(0.01)
            _fill(filling)
        finally:
            os.close(filling)

    def flow(self) -> None:
        """Read again."""
        self._flows.set()

    def close(self) -> None:
        """Let go of it; it ends with its last writer."""
        os.close(self.entrance)
        self.flow()

    def _pump(self) -> None:
        while True:
            if not self._flows.is_set():
                self._holds.set()
                self._flows.wait()
                self._holds.clear()
            if not (data := os.read(self._exit, ROOM_BYTES)):
                break
            os.write(self._sink, data)
        os.close(self._exit)
        os.close(self._sink)


def _fill(entrance: int) -> None:
    with suppress(BlockingIOError):
        while True:
            os.write(entrance, b"\n")
