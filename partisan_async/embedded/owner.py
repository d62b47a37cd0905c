"""A child process that ends with its owner."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable


def end_with_owner(signum: signal.Signals) -> Callable[[], None] | None:
    """What a child does before its exec, to be sent the signal when its owner dies."""
    if sys.platform != "linux":
        return None
    owner, prctl = os.getpid(), ctypes.CDLL(None).prctl

    def ask_kernel() -> None:
        prctl(1, int(signum))  # PR_SET_PDEATHSIG
        if os.getppid() != owner:  # it died before we asked
            os._exit(1)

    return ask_kernel
