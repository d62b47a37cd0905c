"""Tells what an error of the database is about, by its SQLSTATE, and so whether a retry may help.

Only an error that is surely about the connection is retried on another one. The others are about
the request: a row, a missing right, more than the server takes at once. The caller decides how to
go on without it; no process ends for it.
"""

from __future__ import annotations

import re
from enum import Enum

import psycopg


class Blame(Enum):
    """What an error is about."""

    CONNECTION = "connection"
    """The session has ended, was never opened or is read-only: another one may work."""

    CONTENTION = "contention"
    """Another transaction is in the way, for now."""

    AMOUNT = "amount"
    """The statement was too large, or took too long: a smaller one may pass."""

    ROW = "row"
    """The database refuses the content of a row, and will do so again."""

    RIGHT = "right"
    """The role lacks a right: an operator has to grant it."""

    STATEMENT = "statement"
    """The statement does not fit the tables: an operator has to migrate them."""

    SERVER = "server"
    """The server cannot, for now: its disk is full, or a foreign server is unreachable."""


class NoAnswer(psycopg.OperationalError):
    """A statement took longer than its connection's patience, and was given up."""


_CLASSES = {
    "08": Blame.SERVER,  # not FATAL, so not our session: that of a foreign table
    "0A": Blame.STATEMENT,
    "26": Blame.STATEMENT,
    "28": Blame.RIGHT,
    "3D": Blame.STATEMENT,
    "3F": Blame.STATEMENT,
    "40": Blame.CONTENTION,
    "42": Blame.STATEMENT,
    "53": Blame.SERVER,
    "54": Blame.AMOUNT,
    "55": Blame.SERVER,
    "57": Blame.SERVER,
    "58": Blame.SERVER,
    "F0": Blame.SERVER,
    "XX": Blame.SERVER,
}
"""By the first two characters of the SQLSTATE; any other class is ``ROW``."""

_STATES = {
    "25006": Blame.CONNECTION,  # read-only: a standby; the next connection may reach the primary
    "25P02": Blame.CONNECTION,
    "40002": Blame.ROW,
    "40003": Blame.CONNECTION,
    "42501": Blame.RIGHT,
    "53200": Blame.AMOUNT,
    "53400": Blame.AMOUNT,
    "55P03": Blame.CONTENTION,
    "57014": Blame.AMOUNT,
    "XX001": Blame.ROW,
    "XX002": Blame.ROW,
}
"""SQLSTATEs that differ from their class."""


def whose(error: BaseException) -> Blame:
    """Return what an error is about."""
    if isinstance(error, NoAnswer):
        return Blame.AMOUNT
    if not isinstance(error, psycopg.Error):
        return Blame.ROW
    # No trigger can raise FATAL: the session has ended.
    if error.diag.severity_nonlocalized in ("FATAL", "PANIC"):
        return Blame.CONNECTION
    state = error.sqlstate or error.diag.sqlstate
    if state is None:
        lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        return Blame.CONNECTION if lost else Blame.ROW
    return _STATES.get(state) or _CLASSES.get(state[:2], Blame.ROW)


def is_nobodys(error: BaseException) -> bool:
    """Tell whether no retry helps, with any row, until an operator grants or migrates."""
    return whose(error) in (Blame.RIGHT, Blame.STATEMENT)


def is_of_some_rows(error: BaseException) -> bool:
    """Tell whether fewer rows, or other rows, may pass on the same connection."""
    return whose(error) is not Blame.CONNECTION and not is_nobodys(error)


def way_out(error: BaseException, role: str) -> str:
    """Return what an operator has to do about an error that does not pass by itself.

    :param role: the database role that is connected.
    """
    if whose(error) is Blame.ROW:
        return "`manage.py partisan doctor` may say more"
    if whose(error) is not Blame.RIGHT:
        return "run `manage.py migrate`, then `manage.py partisan doctor`"
    named = re.search(r"(partisan_async_\w+)", str(error))
    name = named[1] if named else "…"
    if name.endswith("_seq"):
        return f'GRANT USAGE ON SEQUENCE {name} TO "{role}"'
    return f'GRANT SELECT, INSERT, UPDATE, DELETE ON {name} TO "{role}"'
