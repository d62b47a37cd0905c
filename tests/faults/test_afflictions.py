"""What the soak does to a database: it comes, it spares who records, and it goes."""

from contextlib import closing, contextmanager

import psycopg
import pytest

from tests.faults import afflictions, ledger
from tests.faults.injector import Injector
from tests.faults.partisan_tasks import Noop, Publish
from tests.faults.schedule import Fault
from tests.faults.site import Site

SERVER = {"max_connections": "30", "log_min_messages": "fatal"}

WRITE = "CREATE TEMP TABLE t (n int); CREATE TABLE faults_t (n int); DROP TABLE faults_t, t"


@pytest.fixture
def site(django_db_blocker):
    from partisan_async.embedded import EmbeddedPostgres

    with (
        django_db_blocker.unblock(),
        Site(EmbeddedPostgres(settings=SERVER)) as site,
        site.in_use(),
    ):
        afflictions.prepare(site)
        yield site


@contextmanager
def befallen(site, kind, victim=0):
    affliction = kind(site, victim, 60)
    try:
        yield
    finally:
        affliction.end()


def ask(site, sql, **options):
    with closing(psycopg.connect(site.url, autocommit=True, **options)) as connection:
        return connection.execute(sql).fetchall()


def write(site, **options):
    with closing(psycopg.connect(site.url, autocommit=True, **options)) as connection:
        connection.execute(WRITE)


def test_a_database_that_is_read_only_takes_nothing_but_the_record(site):
    before = psycopg.connect(site.url, autocommit=True)
    with befallen(site, afflictions.ReadOnly):
        kept = psycopg.connect(site.url, autocommit=True)
        with pytest.raises(psycopg.OperationalError):
            before.execute("SELECT 1")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            kept.execute(WRITE)
        write(site, options=ledger.OPTIONS)
        site.execute(WRITE)

    write(site)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        kept.execute(WRITE)  # who keeps its session keeps that
    before.close()
    kept.close()


@pytest.mark.parametrize(("victim", "days"), [(0, 365), (1, 0)])
def test_the_clock_jumps_and_is_right_again(site, victim, days):
    ahead = "SELECT statement_timestamp() - pg_catalog.statement_timestamp()"
    with befallen(site, afflictions.ClockJump, victim):
        ((much,),) = ask(site, ahead)
        assert round(much.total_seconds()) == (days * 86400 or -3600)
        site.execute("UPDATE faults_jump.by SET much = much")  # by other clocks nothing is wrong
        task = Noop("late").delay()
        sql = "UPDATE partisan_async_task SET execute_after = now() + interval '1 year'"
        site.execute(sql)

    ((much,),) = ask(site, ahead)
    assert much.total_seconds() == 0
    task.refresh_from_db()
    ((due,),) = site.execute("SELECT execute_after <= now() FROM partisan_async_task")
    assert due


def test_all_connections_are_used_up_and_given_back(site):
    with befallen(site, afflictions.ConnectionsUsedUp):
        refused = 0
        for _ in range(20):
            try:
                ask(site, "SELECT 1")
            except psycopg.OperationalError:
                refused += 1
        assert refused > 10
        assert site.execute("SELECT 1") == [(1,)]

    assert ask(site, "SELECT 1") == [(1,)]


def test_they_come_back_also_when_nobody_gives_them_back(site):
    """Who is to do that may wait for a connection itself."""
    taken = afflictions.ConnectionsUsedUp(site, 0, 2)

    site.wait_until(lambda: not taken._thread.is_alive(), "the thread has ended")

    assert ask(site, "SELECT 1") == [(1,)]


def test_results_of_every_other_task_are_refused(site):
    tasks = [Publish(number).delay() for number in range(2)]
    even, odd = sorted((task.pk for task in tasks), key=lambda pk: pk % 2)
    sql = "UPDATE partisan_async_task SET result = '1' WHERE id = %s"
    with befallen(site, afflictions.RefusedResults):
        site.execute(sql, odd)
        with pytest.raises(psycopg.errors.RaiseException):
            site.execute(sql, even)

    site.execute(sql, even)


def test_a_log_that_stalls_holds_back_its_lines_and_nothing_else(site):
    supervisor = site.start(piped=True)
    injector = Injector(site, count=0)
    injector._members = [Stalled(supervisor)]

    hit = injector.inject(Fault(0, "stall the log of a supervisor", 0, lasts=600))
    task = Noop("silent").delay()
    site.wait_until_ended(task)

    assert hit == "it"
    assert f"done {task.pk}" not in supervisor.output
    injector.heal()
    supervisor.wait_for(f"done {task.pk}")
    site.settle_down()


class Stalled:
    """A member of the injector's."""

    name, up, afflicted, identity = "it", True, False, None

    def __init__(self, supervisor):
        self.supervisor = supervisor
