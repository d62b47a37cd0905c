"""Tells the service manager what becomes of this process, where it asked to be told.

It is systemd's protocol (sd_notify(3)): datagrams of assignments to the socket that
``NOTIFY_SOCKET`` names, a path or, with an ``@``, an abstract name.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class ServiceManager:
    """Who started this process, if it wants to know how it fares.

    To make one takes the variables out of the environment: workers, and the commands that tasks
    start, must not speak in this process's name.
    """

    def __init__(self) -> None:
        self._address, *_ = [os.environ.pop(name, "") for name in _VARIABLES]
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]

    def tell(self, *assignments: str) -> None:
        """Send ``READY=1`` and the like; nothing, where nobody asked for it."""
        if not self._address:
            return
        # What cannot be sent is not worth to stop for: a manager that misses it says so itself.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
            link.setblocking(False)
            link.sendto("\n".join(assignments).encode(), self._address)
