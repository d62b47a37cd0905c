"""The end of a worker process that ends in order: as Python's own, and bounded in time.

Threads that tasks left behind are not waited for. The process does not end by a return: the main
script's frames are still there, in a forked worker those of the forkserver, too.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from partisan_async import logs
from partisan_async.enqueue import spans

SECONDS = 5.0
"""What ends with the process may take so long."""

begun = threading.Event()
"""This process ends."""


def leave_to_parent() -> None:
    """In a child: leave what is cleared away with an object to the process that made it.

    Such as a ``TemporaryDirectory``: it is the other workers', too.
    """
    for finalizer in list(getattr(weakref.finalize, "_registry", ())):
        finalizer.atexit = False


def end(tell: Callable[[], None]) -> NoReturn:
    """End this process.

    :param tell: called first.
    """
    begun.set()
    threading.Thread(target=_end_in_time, name="partisan end", daemon=True).start()
    for step in (
        tell,
        spans.flush,
        # Among them, of those that are loaded, logging.shutdown() and what multiprocessing has.
        atexit._run_exitfuncs,  # noqa: SLF001
        sys.stdout.flush,
        sys.stderr.flush,
    ):
        try:
            step()
        except BaseException as error:  # noqa: BLE001  it is logged
            logs.callbacks.exit_failed(error)
    os._exit(0)


def _end_in_time() -> None:
    time.sleep(SECONDS)
    with suppress(BaseException):
        logs.callbacks.exit_took_too_long()
    os._exit(0)
