"""Sends signals to a process that may have ended, and never to another one.

The system uses process ids again: once somebody has asked for the exit code of a process that
ended, its id may become another's. Linux has *descriptors* of processes, which stay the same.
"""

from __future__ import annotations

import os
import signal
import threading


def descriptor_of(pid: int) -> int | None:
    """Return a descriptor of a child whose exit code nobody has asked for.

    ``None``: the system has none, or forbids it.
    """
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


class Handle:
    """A process, by its descriptor; where there is none, by its id.

    :param descriptor: closed by ``close()``.
    """

    def __init__(self, pid: int, descriptor: int | None) -> None:
        self._pid = pid
        self._descriptor = descriptor
        self._is_closed = False
        self._lock = threading.Lock()
        """Guards the descriptor: once it is closed, its number is soon another file's."""

    def signal(self, number: int) -> bool:
        """Send a signal; return whether the process was still there."""
        with self._lock:
            if self._is_closed:
                return False
            try:
                if self._descriptor is None:
                    os.kill(self._pid, number)
                else:
                    signal.pidfd_send_signal(self._descriptor, number)
            except (ProcessLookupError, PermissionError):  # it may be another's by now
                return False
            return True

    def close(self) -> None:
        """Send no more signals: the process has ended."""
        with self._lock:
            if not self._is_closed and self._descriptor is not None:
                os.close(self._descriptor)
            self._is_closed = True
