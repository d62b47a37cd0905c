"""Ends a worker process in order: as Python does, but within a time limit.

It does not wait for threads that tasks left behind. It cannot just return, since that would go on
in the frames of the main script, or of the forkserver.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from partisan_async import logs
from partisan_async.enqueue import spans
from partisan_async.worker import insides

SECONDS = 5.0
"""Time limit of the whole end."""

begun = threading.Event()
"""Set when the end of this process has begun."""


def end(tell: Callable[[], None]) -> NoReturn:
    """End this process.

    :param tell: called first; sends ``worker_stopping``.
    """
    begun.set()
    threading.Thread(target=_end_in_time, name="partisan end", daemon=True).start()
    for step in (
        tell,
        spans.flush,
        insides.run_exit_functions,
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
