"""Notifies the service manager of the state of this process, if it asked for that.

The protocol is systemd's, sd_notify(3): datagrams with assignments, to the socket named by
``NOTIFY_SOCKET``, which is a path or, with an ``@``, an abstract name.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class ServiceManager:
    """The service manager that started this process, if it asked for notifications.

    The constructor removes the variables from the environment: workers, and commands that tasks
    start, must not send notifications in this process's name.
    """

    def __init__(self) -> None:
        self._address, *_ = [os.environ.pop(name, "") for name in _VARIABLES]
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]

    def tell(self, *assignments: str) -> None:
        """Send assignments such as ``READY=1``, if the service manager asked for them."""
        if not self._address:
            return
        # A lost message is no reason to stop: a manager that misses one reports that itself.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
            link.setblocking(False)
            link.sendto("\n".join(assignments).encode(), self._address)
