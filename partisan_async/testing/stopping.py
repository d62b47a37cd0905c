"""Lets a test see what tasks do when their supervisor is stopping."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from partisan_async.worker import stopping as worker


@contextmanager
def stopping() -> Iterator[None]:
    """In this block, tasks that run in the test's process see that their supervisor is stopping.

    A task that postpones itself by 0 seconds then counts no postpone, and is left to a later
    ``run_pending()``, as it is to the next supervisor.
    """
    worker.tell()
    try:
        yield
    finally:
        worker.tell(False)
