"""What befalls the database itself for some seconds: each begins when it is made, and is ended.

The recorders, whose sessions are called ``faults …``, are spared.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Protocol

import psycopg

from tests.faults.site import Site

JUMPS = ("365 days", "-1 hour")
"""By how much the database's clock is wrong."""

_CLOCK = """
CREATE SCHEMA faults_jump;
CREATE TABLE faults_jump.by (much interval NOT NULL);
INSERT INTO faults_jump.by VALUES ('0');
CREATE FUNCTION faults_jump.statement_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
AS 'SELECT pg_catalog.statement_timestamp() + much FROM faults_jump.by';
CREATE FUNCTION faults_jump.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
AS 'SELECT pg_catalog.clock_timestamp() + much FROM faults_jump.by';
"""
"""Found before PostgreSQL's own, which all statements of the package ask; see ``clock.py``."""

_OVERDUE = """
UPDATE partisan_async_task SET execute_after = now()
WHERE status IN ('new', 'scheduled', 'limited')
    AND execute_after > now() + interval '10 minutes';
UPDATE partisan_async_limitpause SET until = now() WHERE until > now() + interval '10 minutes'
"""

_REFUSAL = """
CREATE TABLE public.faults_refusal ();
CREATE FUNCTION faults_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM public.faults_refusal) THEN
        RAISE EXCEPTION 'the result of task % is refused', NEW.id;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER faults_refuse BEFORE UPDATE ON partisan_async_task
FOR EACH ROW WHEN (NEW.result IS NOT NULL AND NEW.id % 2 = 0) EXECUTE FUNCTION faults_refuse();
"""


class Affliction(Protocol):
    """It lasts until ``end()``."""

    def end(self) -> None:
        """Undo it."""


Begin = Callable[[Site, int, float], Affliction]
"""Begins one: of a site, with the fault's victim, for so many seconds."""


def prepare(site: Site) -> None:
    """Have sessions that are opened from now on go by a clock that can jump, and results refusable.

    Later, a statement that alters the table would wait for the transaction of a stopped process,
    which nobody would then have go on.
    """
    site.execute(_CLOCK)
    site.execute(_REFUSAL)
    _alter(site, "SET search_path = faults_jump, pg_catalog, public")


def end_sessions(site: Site) -> None:
    """End all sessions but the recorders'."""
    site.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name NOT LIKE 'faults %' AND pid <> pg_backend_pid()"
    )


class ReadOnly:
    """New transactions may not write, as on a server that was demoted; sessions keep to that."""

    def __init__(self, site: Site, victim: int, seconds: float) -> None:
        self._site = site
        _alter(site, "SET default_transaction_read_only = on")
        end_sessions(site)

    def end(self) -> None:
        """Of new sessions only: who keeps one stays read-only."""
        _alter(self._site, "RESET default_transaction_read_only")


class ClockJump:
    """The database's clock is wrong by a year or by an hour, and then right again."""

    def __init__(self, site: Site, victim: int, seconds: float) -> None:
        self._site = site
        self._set(JUMPS[victim % len(JUMPS)])

    def end(self) -> None:
        """What was put off by the wrong clock is let go by the right one: that is left to it."""
        self._set("0")
        self._site.execute(_OVERDUE)

    def _set(self, much: str) -> None:
        self._site.execute("UPDATE faults_jump.by SET much = %s::interval", much)


class ConnectionsUsedUp:
    """Somebody has all connections that the server allows, and takes each that becomes free."""

    def __init__(self, site: Site, victim: int, seconds: float) -> None:
        self._url = site.url
        # Its own end: who is to end it may wait for a connection, too.
        self._until = time.monotonic() + seconds
        self._over = threading.Event()
        self._full = threading.Event()
        self._thread = threading.Thread(target=self._take, name="taker", daemon=True)
        self._thread.start()
        self._full.wait(seconds)
        end_sessions(site)

    def end(self) -> None:
        """Give all of them back."""
        self._over.set()
        self._thread.join()

    def _take(self) -> None:
        with ExitStack() as taken:
            while not self._over.wait(0.005) and time.monotonic() < self._until:
                try:
                    while not self._over.is_set():
                        taken.enter_context(self._connect())
                except psycopg.OperationalError:
                    self._full.set()

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(
            self._url, autocommit=True, application_name="faults taker", connect_timeout=5
        )


class RefusedResults:
    """The database refuses rows with a result, of every other task."""

    def __init__(self, site: Site, victim: int, seconds: float) -> None:
        self._site = site
        site.execute("INSERT INTO public.faults_refusal DEFAULT VALUES")

    def end(self) -> None:
        """It takes them again."""
        self._site.execute("DELETE FROM public.faults_refusal")


def _alter(site: Site, what: str) -> None:
    ((name,),) = site.execute("SELECT current_database()")
    site.execute(f'ALTER DATABASE "{name}" {what}')
