"""Ends running statements without blocking in libpq.

Before libpq 17 a cancel waits for the server's answer while it holds the GIL: if the network is
silent, all threads of the process stand still. So with an older libpq the connection is hung up
instead, as if the server had closed it.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg

from partisan_async import logs
from partisan_async.postgres import insides

if TYPE_CHECKING:
    from psycopg.abc import RV, PQGen

Connection = psycopg.Connection[Any] | psycopg.AsyncConnection[Any]

LOOK_EVERY_SECONDS = 60
"""Interval at which psycopg polls a silent socket; wake-ups do not depend on it."""


def is_safe() -> bool:
    """Tell whether a statement can be cancelled without a call that blocks."""
    return psycopg.capabilities.has_cancel_safe()


def cancel(connection: psycopg.Connection[Any], seconds: float) -> None:
    """Have the server end a statement, or hang up; for a thread that may wait.

    :param seconds: maximum time until the server answers.
    :raises psycopg.OperationalError: it did not answer in time.
    """
    if is_safe():
        connection.cancel_safe(timeout=seconds)
    else:
        hang_up(connection)


def comes_from_cancel(error: BaseException | None) -> bool:
    """Tell whether an error may be what ``cancel`` did to a statement."""
    kind = psycopg.errors.QueryCanceled if is_safe() else psycopg.OperationalError
    return isinstance(error, kind)


def hang_up(connection: Connection) -> bool:
    """Shut a connection's socket down, as if the server had; return whether it was open.

    Not ``close()``: that frees the file descriptor, and another socket may get its number while the
    event loop or another thread still watches it.
    """
    try:
        duplicate = socket.socket(fileno=os.dup(connection.fileno()))
    except (OSError, psycopg.Error):
        return False
    # Its thread may have closed the connection before dup(), which then duplicates another file. If
    # the connection is open now, it was open then.
    with duplicate, suppress(OSError):
        if not connection.closed:
            duplicate.shutdown(socket.SHUT_RDWR)
            return True
    return False


class Session(psycopg.AsyncConnection[Any]):
    """A connection whose waits end at once when they are cancelled."""

    _waits_plainly = False
    """True if it was logged that this release of psycopg waits in another way."""

    async def wait(
        self,
        gen: PQGen[RV],
        interval: float = LOOK_EVERY_SECONDS,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> RV:
        """As psycopg's, without its code for Ctrl-C, which ends no wait in an event loop.

        psycopg's own wait wakes up ten times a second. When cancelled, it first has the server
        cancel the query, which takes ten seconds if the network is silent. This one does neither.
        """
        limit = {} if timeout is None else {"timeout": timeout}  # psycopg 3.2 has no such parameter
        try:
            waited = insides.waiting.wait_async(gen, self.pgconn.socket, interval, **limit)
        except insides.CHANGED as error:
            if not Session._waits_plainly:
                Session._waits_plainly = True
                logs.database.waits_plainly(error)
            return await super().wait(gen, **limit)
        found: RV = await waited
        return found
