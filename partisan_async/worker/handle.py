"""Sends signals to a process that may have ended, and never to another one.

The system reuses process ids: once the exit code of an ended process is collected, another process
may get its id. On Linux a *descriptor* of a process (pidfd) always means the same process.
"""

from __future__ import annotations

import os
import signal
import threading


def descriptor_of(pid: int) -> int | None:
    """Return a descriptor of a child whose exit code nobody has collected.

    ``None``: the system has no descriptors, or forbids one.
    """
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


class Handle:
    """A process, by its descriptor; if there is none, by its id.

    :param descriptor: ``close()`` closes it.
    """

    def __init__(self, pid: int, descriptor: int | None) -> None:
        self._pid = pid
        self._descriptor = descriptor
        self._is_closed = False
        self._lock = threading.Lock()
        """Guards the descriptor: after its close, another file may get its number."""

    def signal(self, number: int) -> bool:
        """Send a signal; return whether the process still existed."""
        with self._lock:
            if self._is_closed:
                return False
            try:
                if self._descriptor is None:
                    os.kill(self._pid, number)
                else:
                    signal.pidfd_send_signal(self._descriptor, number)
            except (ProcessLookupError, PermissionError):  # the id may be another's by now
                return False
            return True

    def close(self) -> None:
        """Send no more signals: the process has ended."""
        with self._lock:
            if not self._is_closed and self._descriptor is not None:
                os.close(self._descriptor)
            self._is_closed = True
