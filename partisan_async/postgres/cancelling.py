"""Ends statements that are under way, and never blocks in libpq for it.

Before libpq 17 a cancel waits for the server's answer, with the interpreter's lock held: where the
network is silent, no thread of the process goes on. There nothing is cancelled: the connection is
hung up, as if the server had closed it.
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

    :param seconds: so long the server may take to answer.
    :raises psycopg.OperationalError: it did not.
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
    """End what waits on a connection, as if the server had closed it; return whether it was open.

    Not by closing it here: the number of its socket would be free, and soon another's, while the
    event loop or another thread still watches it.
    """
    try:
        duplicate = socket.socket(fileno=os.dup(connection.fileno()))
    except (OSError, psycopg.Error):
        return False
    # Its thread may have closed it meanwhile, and the number be another's. If it is open after the
    # duplicate was made, it was so before.
    with duplicate, suppress(OSError):
        if not connection.closed:
            duplicate.shutdown(socket.SHUT_RDWR)
            return True
    return False


class Session(psycopg.AsyncConnection[Any]):
    """A connection whose waits end at once when they are cancelled."""

    _waits_plainly = False
    """Whether it was said that this release of psycopg waits in another way."""

    async def wait(
        self,
        gen: PQGen[RV],
        interval: float = LOOK_EVERY_SECONDS,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> RV:
        """As psycopg's, without what that does for Ctrl-C, which ends no wait in an event loop.

        psycopg's own wait wakes ten times a second. When cancelled, it first has the server cancel
        the query, which takes ten seconds in a black hole. This one does neither.
        """
        limit = {} if timeout is None else {"timeout": timeout}  # psycopg 3.2 knows none
        try:
            waited = insides.waiting.wait_async(gen, self.pgconn.socket, interval, **limit)
        except insides.CHANGED as error:
            if not Session._waits_plainly:
                Session._waits_plainly = True
                logs.database.waits_plainly(error)
            return await super().wait(gen, **limit)
        found: RV = await waited
        return found
