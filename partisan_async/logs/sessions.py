"""Lines about database sessions that runs leave behind in a worker."""

from __future__ import annotations

import logging

logger = logging.getLogger("partisan_async.worker")


def rolled_back(who: str, alias: str) -> None:
    """Say that a run left a transaction open; ``who``: the task, in words."""
    logger.warning(
        "%s left a transaction open on database %r; it is rolled back",
        *(who, alias),
        extra={"event": "rolled back"},
    )


def not_closed(error: BaseException) -> None:
    """Say that a connection cannot be closed, and is dropped."""
    logger.error(
        "a task left a database connection that cannot be closed",
        exc_info=error,
        extra={"event": "session not closed"},
    )


def hung_up(alias: str, *, in_transaction: bool) -> None:
    """Say that a session that a run left open in another thread is ended."""
    logger.warning(
        "session hung up: an ended run left it open on database %r, in a thread that no run"
        " uses any more%s",
        *(alias, "; its transaction is rolled back" if in_transaction else ""),
        extra={"event": "session hung up"},
    )


def not_sought(error: BaseException) -> None:
    """Say that the look for sessions that runs left open failed."""
    logger.error(
        "sessions that ended runs left open were not looked for",
        exc_info=error,
        extra={"event": "sessions not sought"},
    )
