"""The worker's end of the link, and the thread that reads it.

The thread hands tasks back even while ``run()`` blocks the main thread, and lets it know that the
supervisor is stopping. It ends the process when the supervisor is gone.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress

from partisan_async.worker import ending, stopping, wire


class Link:
    """Reports to the supervisor what becomes of its tasks, in the order of the decisions.

    A *ticket* names a task. Sync tasks start in the order of their tickets.
    """

    def __init__(self, link: socket.socket) -> None:
        self.socket = link
        self._lock = threading.Lock()
        """Guards writes and the two numbers below: ``Started`` and ``Revoked`` must reach the
        supervisor in the order in which they were decided."""
        self._current = 0
        self._barrier = 0
        """Unstarted tasks up to this ticket are handed back, and must not start."""

    def attend(self) -> None:
        """Read the link from now on, in a thread of its own."""
        threading.Thread(target=self._attend, name="partisan link", daemon=True).start()

    def send(self, data: bytes) -> None:
        """Send frames to the supervisor."""
        with self._lock:
            self.socket.sendall(data)

    def start_sync(self, ticket: int, limit: float | None, frames: bytes) -> bool:
        """Report that a sync task starts; return ``False`` if it was handed back instead.

        :param frames: frames to send first; not sent if the task was handed back.
        """
        with self._lock:
            if ticket <= self._barrier:
                return False
            self._current = ticket
            self.socket.sendall(frames + wire.encode(wire.Started(ticket, limit)))
            return True

    def start_async(self, ticket: int, limit: float | None) -> bool:
        """Report that an async task starts; return ``False`` if it was handed back instead."""
        with self._lock:
            if ticket <= self._barrier:
                return False
            self.socket.sendall(wire.encode(wire.Started(ticket, limit)))
            return True

    def hand_back_after(self, ticket: int, upto: int, frames: bytes) -> None:
        """Hand back the tasks after ``ticket`` up to ``upto``.

        :param frames: frames to send first.
        """
        with self._lock:
            upto = self._barrier = max(self._barrier, upto)
            self.socket.sendall(frames + wire.encode(wire.Revoked(ticket, upto)))

    def _attend(self) -> None:
        decoder = wire.Decoder()
        while True:
            data = b""
            with suppress(OSError):
                data = self.socket.recv(65536)
            if not data:
                if ending.begun.is_set():
                    return  # ``ending`` limits the time
                # The supervisor is gone, and nobody else can settle what runs here.
                os._exit(1)
            for frame in decoder.feed(data):
                if isinstance(frame, wire.Stopping):
                    stopping.tell()
                else:
                    assert isinstance(frame, wire.Revoke)
                    self._hand_back(frame.upto)

    def _hand_back(self, upto: int) -> None:
        with self._lock:
            self._barrier = max(self._barrier, upto)
            self.socket.sendall(wire.encode(wire.Revoked(self._current, upto)))
