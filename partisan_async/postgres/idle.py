"""Waits until no statement is under way on an asynchronous connection.

psycopg has a lock for that, ``AsyncConnection.lock``, and does not document it. Without it, a call
that waits on the connection ends with an error when that is closed, which the caller takes as the
end of the connection, and tries again.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import psycopg


def until_idle(connection: psycopg.AsyncConnection[Any]) -> AbstractAsyncContextManager[Any]:
    """Return what is entered when no statement is under way, and keeps others waiting."""
    lock = getattr(connection, "lock", None)
    return lock if isinstance(lock, AbstractAsyncContextManager) else nullcontext()
