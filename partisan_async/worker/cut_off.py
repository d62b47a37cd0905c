"""Tells whether an ``ATOMIC`` run failed, or its session with the tasks' database was cut off.

An administrator, a restart or the network may end the session. Then the run is not to blame, and
nothing that it wrote is committed. A time-out that the server has for this very session is the
run's own fault.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import Error, connections, transaction

from partisan_async.exceptions import CancelTask, PostponeTask, TaskTimeout
from partisan_async.postgres.blame import Blame, whose

OWN_TIME_OUTS = ("25P03", "25P04", "57014", "57P05")
"""Of an idle transaction, a transaction, a statement, an idle session."""


class SessionLost(Exception):  # noqa: N818  no user sees it
    """The session ended before the commit, or could not be opened; its cause says why.

    :param begun: whether ``run()`` had been called.
    """

    def __init__(self, *, begun: bool) -> None:
        super().__init__("Its session with the tasks' database was lost.")
        self.begun = begun


@contextmanager
def transaction_of(alias: str) -> Iterator[None]:
    """Run the block in a transaction of its own.

    :raises SessionLost: it ended, or could not begin, through no fault of the block.
    """
    begun = ended = lost = False
    try:
        with transaction.atomic(using=alias):
            begun = True
            session = connections[alias].connection
            try:
                yield
            except BaseException as error:
                lost = _is_broken(session) and not _is_own(error)
                raise
            ended = True
    except BaseException as error:
        # Nobody knows whether a commit without an answer took effect. But the row does: if it did,
        # the claim has ended with it, and is not given back.
        unbegun_or_uncommitted = (ended or not begun) and _is_the_connections(error)
        if lost or unbegun_or_uncommitted:
            raise SessionLost(begun=begun) from error
        raise


@contextmanager
def before_run() -> Iterator[None]:
    """Do in the block what a run needs before it begins.

    :raises SessionLost: the session ended, or could not be opened.
    """
    try:
        yield
    except Error as error:
        if _is_the_connections(error):
            raise SessionLost(begun=False) from error
        raise


def _is_broken(session: Any) -> bool:
    # A session that the run itself closed would be closed, but not broken.
    return isinstance(session, psycopg.Connection) and session.broken


def _is_the_connections(error: BaseException) -> bool:
    return isinstance(error, Error) and (
        error.__cause__ is not None and whose(error.__cause__) is Blame.CONNECTION
    )


def _is_own(error: BaseException) -> bool:
    """Tell whether the run's own error ended it, whatever happened to the session."""
    return isinstance(error, PostponeTask | CancelTask) or any(
        isinstance(each, TaskTimeout) or getattr(each, "sqlstate", None) in OWN_TIME_OUTS
        for each in _chain(error)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
