"""The standard streams of a command that was started with some of them closed, as by ``>&-``."""

from __future__ import annotations

import os
import sys


def open_the_closed() -> None:
    """Open each on the null device.

    Else its number would be that of a socket, which prints of children would get into, and which
    libuv refuses to close: it ends the process.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # of those free, the lowest
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115  for good
            setattr(sys, name, stream)
