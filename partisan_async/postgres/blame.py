"""Whose an error of the database's is, by its class: what may be tried again, and what never ends.

Only what is surely the connection's is tried again on another one. The rest is about what was asked
for: a row, a right that is missing, more than the server takes at once. Whoever asked decides what
to do without it; nobody ends for it.
"""

from __future__ import annotations

import re
from enum import Enum

import psycopg


class Blame(Enum):
    """Whose an error is."""

    CONNECTION = "connection"
    """The session is gone or was never there, or is read-only: another may fare better."""

    CONTENTION = "contention"
    """Another transaction is in the way, for now."""

    AMOUNT = "amount"
    """It was too much, or took too long: less of it may pass."""

    ROW = "row"
    """The database refuses what is in it, and will the next time."""

    RIGHT = "right"
    """The role may not do that: somebody has to grant it."""

    STATEMENT = "statement"
    """It does not fit the tables as they are: somebody has to migrate them."""

    SERVER = "server"
    """The server cannot, for now: its disk is full, or another server that it asks is away."""


class NoAnswer(psycopg.OperationalError):
    """A statement took longer than its connection's patience, and was given up."""


_CLASSES = {
    "08": Blame.SERVER,  # not fatal, so it is not our session: a foreign table's
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
"""By the first two characters of the SQLSTATE; all others are the row's."""

_STATES = {
    "25006": Blame.CONNECTION,  # read-only: a standby, which the next connection may not lead to
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
"""What is not as its class."""


def whose(error: BaseException) -> Blame:
    """Return whose an error is."""
    if isinstance(error, NoAnswer):
        return Blame.AMOUNT
    if not isinstance(error, psycopg.Error):
        return Blame.ROW
    # No trigger can raise FATAL: it is the session that has ended.
    if error.diag.severity_nonlocalized in ("FATAL", "PANIC"):
        return Blame.CONNECTION
    state = error.sqlstate or error.diag.sqlstate
    if state is None:
        lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        return Blame.CONNECTION if lost else Blame.ROW
    return _STATES.get(state) or _CLASSES.get(state[:2], Blame.ROW)


def is_nobodys(error: BaseException) -> bool:
    """Tell whether trying again heals nothing, with whatever row: somebody has to see to it."""
    return whose(error) in (Blame.RIGHT, Blame.STATEMENT)


def is_of_some_rows(error: BaseException) -> bool:
    """Tell whether fewer rows, or others, may fare better on the same connection."""
    return whose(error) is not Blame.CONNECTION and not is_nobodys(error)


def way_out(error: BaseException, role: str) -> str:
    """Return what somebody has to do about an error that does not pass by itself.

    :param role: who is connected.
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
