"""Waits until no statement runs on an asynchronous connection.

psycopg's lock for that, ``AsyncConnection.lock``, is not documented. If a release has none, closing
the connection ends a statement with an error, which its caller takes for a lost connection and
retries.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import psycopg


def until_idle(connection: psycopg.AsyncConnection[Any]) -> AbstractAsyncContextManager[Any]:
    """Return a context that is entered when no statement runs, and in which none starts."""
    lock = getattr(connection, "lock", None)
    return lock if isinstance(lock, AbstractAsyncContextManager) else nullcontext()
