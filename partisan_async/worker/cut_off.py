"""Tells whether an ``ATOMIC`` run failed, or lost its session with the tasks' database.

An administrator, a restart or the network may end the session. Then the run is not to blame, and
nothing that it wrote is committed. If a time-out of the server ends the session, the run is to
blame.
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
"""SQLSTATEs of time-outs: of an idle transaction, a transaction, a statement, an idle session."""


class SessionLost(Exception):  # noqa: N818  no user sees it
    """The session ended before the commit, or could not be opened; ``__cause__`` says why.

    :param begun: whether ``run()`` had been called.
    """

    def __init__(self, *, begun: bool) -> None:
        super().__init__("Its session with the tasks' database was lost.")
        self.begun = begun


@contextmanager
def transaction_of(alias: str) -> Iterator[None]:
    """Run the block in a transaction of its own.

    :raises SessionLost: it was cut off, or could not begin, through no fault of the block.
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
        # A commit without an answer may have taken effect. To give the claim back is still safe:
        # such a commit has settled the claim, so the give-back changes nothing.
        unbegun_or_uncommitted = (ended or not begun) and _is_the_connections(error)
        if lost or unbegun_or_uncommitted:
            raise SessionLost(begun=begun) from error
        raise


class before_run:  # noqa: N801  it is called as a function is
    """Run the block, which prepares a run.

    :raises SessionLost: the session ended, or could not be opened.
    """

    # Not by contextmanager(): most runs of typed calls come here, and a generator costs as much as
    # to decode the call.
    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None and _is_the_connections(error):
            raise SessionLost(begun=False) from error


def _is_broken(session: Any) -> bool:
    # A session that the run itself closed is closed, but not broken.
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
