"""Lines about the database: parts of a supervisor that cannot work, connections, migrations."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import psycopg

from partisan_async.text.one_line import explain

logger = logging.getLogger("partisan_async")


def trying_again(what: str, error: BaseException) -> None:
    """Say that a part of a supervisor failed with an error that passes by itself."""
    logger.warning(
        "%s failed, trying again: %s", what, explain(error), extra={"event": "trying again"}
    )


def hindered(what: str, error: BaseException, way_out: str) -> None:
    """Say that a part of a supervisor fails until somebody mends the cause.

    :param way_out: how to mend it.
    """
    logger.critical(
        "%s failed, and will until somebody mends it: %s; %s",
        *(what, explain(error), way_out),
        extra={"event": "hindered"},
    )


def unhindered(what: str) -> None:
    """Say that a part of a supervisor that was hindered works again."""
    logger.warning("%s works again", what, extra={"event": "unhindered"})


def works_plainly(error: BaseException) -> None:
    """Say that this release of psycopg lacks what fast enqueues and renewed sessions need."""
    logger.warning(
        "psycopg %s is not known to partisan_async: until a release supports it, tasks are enqueued"
        " by Django's cursor, and a worker opens a connection for each run, which takes longer: %s",
        *(psycopg.__version__, explain(error)),
        extra={"event": "works plainly"},
    )


def waits_plainly(error: BaseException) -> None:
    """Say that this release of psycopg lacks what ends a wait at once."""
    logger.warning(
        "psycopg %s is not known to partisan_async: until a release supports it, a wait on a"
        " connection wakes up ten times a second, and ends late if the network is silent: %s",
        *(psycopg.__version__, explain(error)),
        extra={"event": "waits plainly"},
    )


def claim_connection_not_renewed(error: BaseException) -> None:
    """Say that claims stay with their old connection."""
    logger.info(
        "the connection of claims was not renewed: %s",
        explain(error),
        extra={"event": "connection not renewed"},
    )


def not_run_after_commit(statement: str, error: BaseException) -> None:
    """Say that the NOTIFY which follows a ``delay()`` failed."""
    logger.error(
        "not run after a commit: %s (%s)",
        *(statement, error),
        extra={"event": "not run after a commit"},
    )


def no_tables_made(alias: str, vendor: str) -> None:
    """Say that ``migrate`` passes over a database that is not PostgreSQL."""
    logger.warning(
        "partisan_async makes no tables in database %r: it is %s, not PostgreSQL",
        *(alias, vendor),
        extra={"event": "no tables made"},
    )


def migration_waits(tables: Sequence[str]) -> None:
    """Say that ``migrate`` waits for tables that are in use."""
    logger.warning(
        "waiting for an open transaction that has read or written one of: %s",
        ", ".join(tables),
        extra={"event": "migration waits"},
    )
