"""A child process that ends with its owner."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable


def end_with_owner(signum: signal.Signals) -> Callable[[], None] | None:
    """A function for a child to call before its exec: its owner's death then sends the signal."""
    if sys.platform != "linux":
        return None
    owner, prctl = os.getpid(), ctypes.CDLL(None).prctl

    def ask_kernel() -> None:
        prctl(1, int(signum))  # PR_SET_PDEATHSIG
        if os.getppid() != owner:  # the owner died before the prctl()
            os._exit(1)

    return ask_kernel
