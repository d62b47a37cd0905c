"""The database fails, in part or in whole: sessions end, locks stand, the server goes and comes."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from datetime import timedelta

import psutil
import psycopg
import pytest
from django.db import connections, transaction
from django.utils import timezone
from psycopg.conninfo import make_conninfo

from partisan_async.models import Task
from tests.faults.partisan_tasks import Deposit, Nap, Noop
from tests.process import ROOT, environment

WORKERS = ""
"""What workers and clients call themselves: Django sets no application_name."""


def end_sessions(site, name):
    """End all client sessions of this application_name; return how many."""
    connections["default"].close()
    rows = site.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE %s"
        " AND backend_type = 'client backend' AND pid <> pg_backend_pid()",
        name,
    )
    return len(rows)


@contextmanager
def open_transaction(site, *statement):
    """Hold the locks of a statement for as long as the block lasts."""
    with psycopg.connect(site.url, application_name="faults lock") as connection:
        connection.execute(*statement)
        yield
        connection.rollback()


def status(task):
    return Task.objects.values_list("status", flat=True).get(pk=task.pk)


class TestEndedSessions:
    @pytest.mark.parametrize(
        "name",
        [
            pytest.param("% claim", id="the claims'"),
            pytest.param("% settle", id="the settler's"),
            pytest.param("% beat", id="the heartbeat's"),
            pytest.param(WORKERS, id="the workers' and the clients'"),
        ],
    )
    def test_they_cost_nobody_a_task(self, site, name):
        """Claims and settles whose answers are lost with their session included."""
        site.start()
        with site.load(rate=50):
            for _ in range(8):
                site.wait_until_ended(Deposit().delay())
                site.wait_until(lambda: end_sessions(site, name), f"a session {name!r} ended")
            site.wait_until_ended(Deposit().delay())

        verdict = site.settle_down()

        assert verdict.duplicates == {}

    def test_the_listeners_end_is_told_once_and_it_listens_again(self, site):
        """Each time; what was notified in between is found without."""
        supervisor = site.start()
        proven = "listening: queue 'default' is woken by NOTIFY"
        with site.load(rate=50):
            for times in range(1, 5):
                site.wait_until(lambda n=times: supervisor.output.count(proven) == n, proven)
                assert end_sessions(site, "% listen") == 1
                site.wait_until_ended(Deposit().delay())

        verdict = site.settle_down()

        assert verdict.duplicates == {}
        assert supervisor.output.count("NOTIFY cannot be relied on") == 4

    def test_between_commit_and_notify_the_call_stands_and_the_task_runs(self, site):
        """The caller has nothing to repair: the wake-up is lost, and the next beat sees the row."""
        site.start()
        with transaction.atomic():
            me = connections["default"].connection.info.backend_pid
            end = "SELECT pg_terminate_backend(%s, 10000)"
            transaction.on_commit(lambda: site.execute(end, me))
            task = Noop().delay()

        connections["default"].close()
        site.settle_down()

        assert status(task) == "finished"


class TestRestart:
    def test_under_load_it_costs_nobody_a_task(self, site):
        """A crash three times, and once in order, with two supervisors at work."""
        pair = [site.start(), site.start()]
        with site.load(rate=50):
            for mode in ("immediate", "immediate", "fast", "immediate"):
                site.wait_until_ended(Deposit().delay(), Noop(mode).delay())
                site.restart(mode)
            site.wait_until_ended(Deposit().delay())

        verdict = site.settle_down()

        assert all("fenced" not in supervisor.output for supervisor in pair)
        assert verdict.duplicates == {}

    @pytest.mark.parametrize("how", ["stopped", "hanging"])
    def test_away_for_longer_than_the_lease_nobody_rescues_the_living(self, site, how):
        """All leases have lapsed by the clock, and who is back first must not take the others'.

        The claims stay what they are, and what ran meanwhile is written in the end.
        """
        relay = site.relay()
        second = site.start(url=site.relayed(relay), ttl=5, WORKERS_COUNT=3)
        naps = [Nap(seconds).delay() for seconds in (1, 12)]
        for nap in naps:
            site.running(nap)
        first = site.start(ttl=5, WORKERS_COUNT=3)
        with site.load(rate=30):
            relay.open.clear()
            with away(site, how):
                for supervisor in (first, second):
                    supervisor.wait_for("lease lost", seconds=60)
            first.wait_for("lease regained", seconds=60)
            site.wait_until_ended(Noop().delay(priority=1))
            relay.open.set()
            second.wait_for("lease regained", seconds=60)
            site.wait_until_ended(Deposit().delay())

        verdict = site.settle_down()

        relay.close()
        assert verdict.duplicates == {}
        for nap in naps:
            nap.refresh_from_db()
            assert (nap.status, nap.claim_seq, nap.tries) == ("finished", 1, 1)
        assert not any("rescued" in supervisor.output for supervisor in (first, second))


@contextmanager
def away(site, how):
    """Have the server away while the block lasts: it was killed, or it does not answer."""
    server = psutil.Process(site._server.pid)
    if how == "stopped":
        os.kill(server.pid, signal.SIGQUIT)
        yield
        site.restart()
    else:
        family = [server, *server.children(recursive=True)]
        for process in family:
            process.suspend()
        try:
            yield
        finally:
            for process in family:
                process.resume()


class TestLocks:
    def test_locked_rows_stay_where_they_are_and_others_flow(self, site):
        """A row that waits, one that is due, one that has run: another transaction holds them."""
        soon = timezone.now() + timedelta(seconds=1)
        waiting, due = Noop("waiting").delay(), Noop("due").delay(execute_after=soon)
        lock = "SELECT FROM partisan_async_task WHERE id = ANY(%s) FOR UPDATE"
        with open_transaction(site, lock, [[waiting.pk, due.pk]]):
            supervisor = site.start()
            nap = Nap(1).delay()
            site.running(nap)
            with open_transaction(site, lock, [[nap.pk]]), site.load(rate=40) as load:
                supervisor.wait_for(f"locked {nap.pk} ")
                later = Noop("later").delay(execute_after=soon + timedelta(seconds=1))
                site.wait_until_ended(later)
                site.wait_until(lambda: len(load.committed) > 60)
                site.wait_until_ended(*Task.objects.filter(pk__in=sorted(load.committed)[:40]))

                assert [status(task) for task in (waiting, due, nap)] == [
                    "new",
                    "scheduled",
                    "in_process",
                ]

        verdict = site.settle_down()

        assert verdict.duplicates == {}
        assert "fenced" not in supervisor.output

    def test_a_dead_ones_row_that_is_locked_is_rescued_afterwards(self, site):
        """The one that is free is not kept waiting by it, nor is new work."""
        victim = site.start()
        naps = [Nap(3).delay() for _ in range(2)]
        for nap in naps:
            site.running(nap)
        victim.kill()
        lock = "SELECT FROM partisan_async_task WHERE id = %s FOR UPDATE"
        with open_transaction(site, lock, [naps[0].pk]), site.load(rate=20):
            heir = site.start()
            site.wait_until_ended(naps[1], Noop().delay())

            assert status(naps[0]) == "in_process"

        verdict = site.settle_down()

        assert verdict.duplicates == {"rescued": 2}
        assert heir.output.count("rescued 1") == 2

    def test_a_table_locked_for_longer_than_the_lease_costs_nobody_a_task(self, site):
        """As by VACUUM FULL, or a migration: statements that were given up wait in its queue, and
        take effect when nobody expects them any more.
        """
        pair = [site.start(), site.start()]
        with site.load(rate=40):
            nap = Nap(9).delay(priority=1)
            site.running(nap)
            with open_transaction(site, "LOCK TABLE partisan_async_task IN ACCESS EXCLUSIVE MODE"):
                for supervisor in pair:
                    supervisor.wait_for("lease lost", seconds=60)
            for supervisor in pair:
                supervisor.wait_for("lease regained", seconds=60)
            site.wait_until_ended(Deposit().delay())

        verdict = site.settle_down()

        assert verdict.duplicates == {}


class TestIsolation:
    @pytest.fixture(params=["serializable", "repeatable read"])
    def isolation(self, site, request):
        how = "ALTER DATABASE postgres {} default_transaction_isolation {}"
        connections["default"].close()
        site.execute(how.format("SET", f"TO '{request.param}'"))
        yield request.param
        site.execute(how.format("RESET", ""))

    def test_stricter_than_usual_it_costs_nobody_a_task(self, site, isolation):
        """Two supervisors are in each other's way then: the statement that fails is repeated."""
        pair = [site.start(), site.start()]
        with site.load(rate=60) as load:
            site.wait_until(lambda: len(load.committed) > 150)

        verdict = site.settle_down()

        assert verdict.duplicates == {}
        assert all("fenced" not in supervisor.output for supervisor in pair)
        with psycopg.connect(site.url) as fresh:
            assert fresh.execute("SHOW transaction_isolation").fetchone() == (isolation,)


class TestMigrations:
    @pytest.fixture
    def url(self, site):
        """A database of the same server that has no tables yet."""
        site.execute("CREATE DATABASE behind")
        yield make_conninfo(site.url, dbname="behind")
        site.execute("DROP DATABASE behind WITH (FORCE)")

    def test_behind_the_start_is_refused_with_a_sentence(self, site, url):
        """It says how many are missing and what to run; with them the start succeeds."""
        all_there_are = len(list((ROOT / "partisan_async" / "migrations").glob("0*.py")))
        for missing in (all_there_are, all_there_are - 1):
            refused = site.start(url=url, wait=False)

            assert refused.process.wait(60) == 1
            assert (
                f"CommandError: {missing} migration(s) of partisan_async are not applied to"
                " database 'default'; run `manage.py migrate` first." in refused.output
            )
            assert "Traceback" not in refused.output
            migrate(url, *(["0001"] if missing == all_there_are else []))

        site.start(url=url).stop()


def migrate(url, *target):
    env = environment(
        DATABASE_URL=url,
        DJANGO_SETTINGS_MODULE="tests.faults.settings",
    )
    command = [sys.executable, "-m", "django", "migrate", "partisan_async", *target]
    subprocess.run([*command, "--verbosity", "0"], env=env, check=True)
