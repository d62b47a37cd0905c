"""A clock for the server that is set by hand, so that a day takes as long as its ticks.

All statements of the package ask the server for ``statement_timestamp()``. While it is in force a
function of that name is found before PostgreSQL's own, by every session that is opened meanwhile;
the statements themselves are what they always are. The supervisors' own clocks go on as ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.db import connections

from partisan_async import store
from tests.faults.site import Site

_SET_UP = """
CREATE SCHEMA faults_clock;

CREATE TABLE faults_clock.face (
    at timestamptz,
    ahead interval NOT NULL DEFAULT '0',
    slow_seconds float NOT NULL DEFAULT 0);
INSERT INTO faults_clock.face VALUES (now());

CREATE FUNCTION faults_clock.statement_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
AS 'SELECT COALESCE(at, pg_catalog.statement_timestamp() + ahead) FROM faults_clock.face';

CREATE FUNCTION faults_clock.slow_down() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(slow_seconds) FROM faults_clock.face WHERE slow_seconds > 0;
    RETURN NULL;
END $$;

CREATE TRIGGER faults_slow AFTER UPDATE OF next_tick ON partisan_async_schedule
FOR EACH ROW EXECUTE FUNCTION faults_clock.slow_down();
"""

_IN_THE_MIDDLE = """
SELECT application_name, pid FROM pg_stat_activity
WHERE wait_event = 'PgSleep' AND query LIKE '%partisan_async_schedule%'
"""


class Clock:
    """The server's clock."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def set(self, moment: datetime) -> None:
        """Have it show this, until it is set again."""
        self._site.execute("UPDATE faults_clock.face SET at = %s", moment)

    def jump(self, ahead: timedelta) -> None:
        """Have it go, so far ahead of the real one."""
        self._site.execute("UPDATE faults_clock.face SET at = NULL, ahead = %s", ahead)

    def ring(self, queue_name: str) -> None:
        """Have the supervisors of a queue look at it."""
        statement = store.notify(queue_name, store.STEERED)
        with connections["default"].cursor() as cursor:
            cursor.execute(*statement)

    def slow_down(self, seconds: float) -> None:
        """Have a tick's statement stay in the middle of itself for so long."""
        self._site.execute("UPDATE faults_clock.face SET slow_seconds = %s", seconds)

    def in_the_middle(self) -> list[tuple[str, int]]:
        """Return the server sessions that are: their application_name, and their pid."""
        return self._site.execute(_IN_THE_MIDDLE)


@contextmanager
def clock_by_hand(site: Site) -> Iterator[Clock]:
    """Put it in force, for sessions that are opened from now on."""
    ((database,),) = site.execute("SELECT current_database()")
    site.execute(_SET_UP)
    path = "faults_clock, pg_catalog, public"
    site.execute(f'ALTER DATABASE "{database}" SET search_path = {path}')
    connections["default"].close()
    try:
        yield Clock(site)
    finally:
        site.end_supervisors()
        connections["default"].close()
        site.execute(f'ALTER DATABASE "{database}" RESET search_path')
        site.execute("DROP SCHEMA faults_clock CASCADE")
