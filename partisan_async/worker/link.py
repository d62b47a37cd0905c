"""The worker's end of the link, and the thread that reads it.

That thread hands tasks back even while ``run()`` blocks the main thread, and ends the process when
the supervisor is gone.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress

from partisan_async.worker import ending, wire


class Link:
    """Tells the supervisor what becomes of its tasks, in the order in which it was decided.

    A task is named by its *ticket*. Sync tasks start in the order of theirs.
    """

    def __init__(self, link: socket.socket) -> None:
        self.socket = link
        self._lock = threading.Lock()
        """Guards the writing side and the two numbers: "started" and "revoked" must reach the
        supervisor in the order in which they were decided."""
        self._current = 0
        self._barrier = 0
        """Tasks up to this ticket that have not started do not start any more."""

    def attend(self) -> None:
        """Read the link from now on, in a thread of its own."""
        threading.Thread(target=self._attend, name="partisan link", daemon=True).start()

    def send(self, data: bytes) -> None:
        """Send frames to the supervisor."""
        with self._lock:
            self.socket.sendall(data)

    def start_sync(self, ticket: int, limit: float | None, frames: bytes) -> bool:
        """Tell that a sync task starts; return ``False`` if it was handed back instead.

        :param frames: frames to send before that; not sent if nothing is told.
        """
        with self._lock:
            if ticket <= self._barrier:
                return False
            self._current = ticket
            self.socket.sendall(frames + wire.encode(wire.Started(ticket, limit)))
            return True

    def start_async(self, ticket: int, limit: float | None) -> bool:
        """Tell that an async task starts; return ``False`` if it was handed back instead."""
        with self._lock:
            if ticket <= self._barrier:
                return False
            self.socket.sendall(wire.encode(wire.Started(ticket, limit)))
            return True

    def hand_back_after(self, ticket: int, upto: int, frames: bytes) -> None:
        """Hand the tasks after this ticket back, up to the other one.

        :param frames: frames to send before that.
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
                    return  # it is bounded in time
                # The supervisor is gone, and with it the only one who could settle what runs here.
                os._exit(1)
            for frame in decoder.feed(data):
                assert isinstance(frame, wire.Revoke)
                self._hand_back(frame.upto)

    def _hand_back(self, upto: int) -> None:
        with self._lock:
            self._barrier = max(self._barrier, upto)
            self.socket.sendall(wire.encode(wire.Revoked(self._current, upto)))
