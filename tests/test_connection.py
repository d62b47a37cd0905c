"""The running side, when its connections end or its database goes away."""

import asyncio
import gc
import time
import uuid
from datetime import timedelta

import psycopg
import pytest
from django.db import connection, connections
from django.utils import timezone

from partisan_async import store
from partisan_async.claim import Attempt, Claim, Settlement
from partisan_async.embedded import EmbeddedPostgres
from partisan_async.models import Task
from partisan_async.policy import Failed, Failure, Finished
from partisan_async.store import Statement
from partisan_async.supervisor.connection import Connection
from partisan_async.testing import live_supervisor
from tests.conftest import ended, marks, wait_until
from tests.relay import Relay
from tests.testapp.partisan_tasks import Sleep, Write

pytestmark = pytest.mark.django_db(transaction=True)


def terminate(purpose):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
            " WHERE application_name = %s AND datname = current_database()",
            [f"partisan_async default {purpose}"],
        )
        return cursor.fetchone()[0]


@pytest.mark.parametrize("purpose", ["listen", "claim", "settle", "beat"])
def test_a_terminated_connection_is_opened_again(purpose):
    """And what was notified meanwhile is found."""
    with live_supervisor():
        Write("before").delay()
        wait_until(ended)
        assert terminate(purpose) == 1
        Write("after").delay()
        wait_until(ended)
        wait_until(lambda: terminate(purpose) == 1)

    assert marks() == ["before", "after"]


def test_the_connection_of_claims_is_renewed_after_so_many_claims():
    """CHECKS_BEFORE_CLEANUP: a server process that grows must not grow for ever."""

    def backends():
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pid FROM pg_stat_activity"
                " WHERE application_name = %s AND datname = current_database()",
                ["partisan_async default claim"],
            )
            return cursor.fetchall()

    with live_supervisor(CHECKS_BEFORE_CLEANUP=3, beat_seconds=0.5):
        Write(0).delay()
        wait_until(ended)
        first = backends()
        for number in range(1, 8):
            Write(number).delay()
            wait_until(ended)

        wait_until(lambda: len(backends()) == 1 and backends() != first)


async def test_calls_that_begin_while_it_is_renewed_are_answered():
    """By the old connection or the new one; and the old one is closed after them."""
    renewed = Connection("default", "test", timedelta(seconds=5))
    ask = Statement("SELECT pg_backend_pid()", {})
    seen = set()

    for _ in range(100):
        renewing = asyncio.ensure_future(renewed.renew(ask))
        while not renewing.done():
            seen |= {pid for (pid,) in await renewed.execute(ask)}
        await renewing
    await renewed.close()

    assert len(seen) > 50
    there = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %(name)s"
    named = Statement(there, {"name": "partisan_async default test"})
    looking = Connection("default", "look", timedelta(seconds=5))
    while await looking.execute(named) != [(0,)]:
        await asyncio.sleep(0.02)
    await looking.close()


@pytest.mark.parametrize("call", [Connection.execute, Connection.renew])
async def test_a_call_that_is_cancelled_at_any_moment_leaves_no_connection(call):
    """That would be told as a ResourceWarning, which is an error in the tests."""
    ask = Statement("SELECT count(*) FROM pg_sleep(0.001)", {})
    turns = done = 0
    while done < 3:
        cut_short = Connection("default", "test", timedelta(seconds=5))
        calling = asyncio.ensure_future(call(cut_short, ask))
        for _ in range(turns):
            await asyncio.sleep(0)
        done += calling.done()
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        await cut_short.close()
        turns += 1 + turns // 20

    gc.collect()


def test_a_renewal_that_may_not_be_leaves_the_old_connection_in_use(caplog):
    """As where the role was dropped that it is to take: what works goes on."""
    caplog.set_level("INFO", logger="partisan_async")
    options = connection.settings_dict["OPTIONS"]
    with live_supervisor(CHECKS_BEFORE_CLEANUP=1, beat_seconds=0.2):
        Write("before").delay()
        wait_until(ended)
        options["assume_role"] = "nobody_such"
        try:
            wait_until(lambda: Write("more").delay() and "was not renewed" in caplog.text)
        finally:
            del options["assume_role"]
        Write("after").delay()
        wait_until(ended)

    assert {"before", "after"} <= set(marks())
    assert "the connection of claims was not renewed: role" in caplog.text


def test_tasks_that_run_while_the_connections_end_are_settled_once():
    with live_supervisor():
        tasks = [Sleep(1, number).delay() for number in range(2)]
        wait_until(lambda: len(marks()) == 2)
        for purpose in ("listen", "work", "beat"):
            terminate(purpose)
        wait_until(ended)

    assert len(marks()) == 4
    for task in tasks:
        task.refresh_from_db()
        assert (task.status, task.tries, task.claim_seq) == ("finished", 1, 1)


@pytest.fixture
def cut_off(settings):
    """A supervisor whose own connections go by a relay, its workers' do not; and the relay."""
    direct = connection.settings_dict
    relay = Relay((direct["HOST"], int(direct["PORT"] or 5432)))
    second = connections.settings["second"]
    before = {name: second[name] for name in ("HOST", "PORT")}
    second.update(HOST="127.0.0.1", PORT=str(relay.port))
    settings.DATABASE_ROUTERS = ["tests.test_enqueue.ToSecond"]
    with quick() as supervisor:
        settings.DATABASE_ROUTERS = []
        yield supervisor, relay
        relay.open.set()
    second.update(before)
    relay.close()


def quick():
    return live_supervisor(beat_seconds=0.3, ttl_seconds=1.5, WORKERS_COUNT=1)


def test_a_black_hole_longer_than_the_lease_is_survived(cut_off):
    """Calls are bounded; and who finds its claims still its own settles them."""
    supervisor, relay = cut_off
    task = Sleep(0.5, "through").delay()
    wait_until(lambda: len(marks()) == 1)

    relay.open.clear()
    wait_until(lambda: not supervisor.parts.lease.held)
    relay.open.set()
    wait_until(lambda: ended(task))
    Write("after").delay()
    wait_until(ended)

    task.refresh_from_db()
    assert (task.status, task.claim_seq) == ("finished", 1)
    assert marks() == ["start through", "end through", "after"]


def test_one_that_was_cut_off_gives_way_to_the_one_that_took_over(cut_off):
    """Its task is run again elsewhere; back again, it kills its own run, and writes nothing."""
    lost, relay = cut_off
    task = Sleep(8, "long").delay()
    wait_until(lambda: len(marks()) == 1)
    with quick() as heir:
        wait_until(lambda: heir.parts.lease.steady)

        relay.open.clear()
        wait_until(lambda: Task.objects.get().claimed_by == heir.id)
        relay.open.set()
        wait_until(lambda: lost.parts.lease.held and not lost.parts.dispatcher.holdings.claims())
        assert not ended(task)
        wait_until(ended)

    task.refresh_from_db()
    assert (task.status, task.claim_seq, task.tries, task.lost) == ("finished", 2, 1, 0)
    assert marks() == ["start long", "start long", "end long"]


def test_a_lapsed_lease_does_not_spin(cut_off):
    """With a task due, and nobody to ask for it."""
    supervisor, relay = cut_off
    Write("due").delay(execute_after=timezone.now() + timedelta(seconds=3))
    wait_until(lambda: supervisor.parts.agenda.due_at is not None)

    relay.open.clear()
    wait_until(lambda: not supervisor.parts.lease.held)
    wait_until(lambda: supervisor.parts.agenda.due_at < time.monotonic())
    before, began = time.process_time(), time.monotonic()
    time.sleep(1)  # the span that is measured
    busy = (time.process_time() - before) / (time.monotonic() - began)
    relay.open.set()
    wait_until(ended)

    assert busy < 0.5


async def test_to_hang_up_leaves_the_socket_to_the_call_that_waits_on_it():
    """Closed under it, its number is soon a worker's link, and the event loop mixes them up."""
    from partisan_async.postgres.cancelling import hang_up
    from partisan_async.supervisor.opening import connect

    relay = await connect("default", "test")
    waiting = asyncio.ensure_future(anext(relay.notifies()))
    await asyncio.sleep(0)
    number = relay.fileno()

    hang_up(relay)

    assert relay.fileno() == number
    with pytest.raises(psycopg.OperationalError):
        await waiting
    await relay.close()


class TestPreparing:
    """Claims and settles are prepared; what that may bring about is harmless."""

    async def test_a_plan_that_was_made_for_an_empty_table_goes_by_the_indexes(self):
        """It outlives the growth of the table. Nothing is analyzed in these transactions."""
        queue, ttl, me = "default", timedelta(minutes=1), uuid.uuid4()
        of_mine = Connection("default", "test", timedelta(seconds=30), prepares=True)
        claim = Claim(1, 1, queue, "Write", "{}", 10, 0, 0, 0, False, 0, 0, 0.0)
        finished = Settlement(claim, Finished(None), Attempt(0.1, "worker"))
        failed = Settlement(claim, Failed(Failure("Oops", "", ""), lost=False), Attempt(0.1, "w"))
        for statement in (
            store.claim(me, queue, 10, ttl),
            store.settle(me, [finished]),
            store.settle(me, [failed]),
            store.delete_finished(me, [finished]),
        ):
            await of_mine.execute(statement)

        prepared = "SELECT name, cardinality(parameter_types) FROM pg_prepared_statements"
        plans = []
        for name, count in await of_mine.execute(Statement(prepared, {})):
            nulls = ", ".join(["NULL"] * count)
            call = f"{name} ({nulls})" if count else name
            rows = await of_mine.execute(Statement(f"EXPLAIN EXECUTE {call}", {}))
            plans.append("\n".join(line for (line,) in rows))
        await of_mine.close()

        on_tasks = [plan for plan in plans if "partisan_async_task" in plan]
        assert len(on_tasks) == 4
        for plan in on_tasks:
            assert "Index Scan using partisan_async" in plan
            assert "Seq Scan on partisan_async_task" not in plan
            assert "Sort" not in plan

    async def test_what_was_prepared_may_be_gone(self):
        """As where a pooler shows the server's own number: it is noticed, and left for good."""
        of_mine = Connection("default", "test", timedelta(seconds=30), prepares=True)
        ask = Statement("SELECT %(number)s", {"number": 1})
        await of_mine.execute(ask)
        await of_mine.execute(Statement("DO 'BEGIN EXECUTE ''DEALLOCATE ALL''; END'", {}))

        with pytest.raises(psycopg.OperationalError, match="nothing is prepared from now on"):
            await of_mine.execute(ask)

        assert await of_mine.execute(ask) == [(1,)]
        prepared = Statement("SELECT count(*) FROM pg_prepared_statements", {})
        assert await of_mine.execute(prepared) == [(0,)]
        await of_mine.close()

    def test_a_column_that_gets_another_type_meanwhile_stops_nothing(self):
        """As a migration may do, under a supervisor that is to be replaced after it."""
        with live_supervisor() as supervisor:
            Write("before").delay()
            wait_until(ended)
            for kind in ("bigint", "integer"):
                with connection.cursor() as cursor:
                    cursor.execute(f"ALTER TABLE partisan_async_task ALTER priority TYPE {kind}")
                Write(kind).delay()
                wait_until(ended)
            assert supervisor.parts.claiming._prepares is False

        assert marks() == ["before", "bigint", "integer"]


class TestRestart:
    """On a server of its own, which is stopped and started."""

    def test_tasks_go_on_after_an_immediate_restart(self, own_server):
        server, supervisor, shell = own_server
        shell("for n in range(4): Sleep(0.1, n).delay()")
        supervisor.wait_for(" 4 Sleep in")

        server.restart("immediate")

        shell("Write('after').delay(); AsyncSleep(0.1, 'async').delay()")
        supervisor.wait_for(" Write in")
        supervisor.wait_for(" AsyncSleep in")
        statuses = shell("print(list(Task.objects.values_list('status', flat=True).distinct()))")
        assert statuses == "['finished']"


@pytest.fixture
def own_server():
    import subprocess
    import sys

    from tests.process import environment, partisan

    with EmbeddedPostgres() as server:
        env = environment(DATABASE_URL=server.url)

        def shell(code):
            imports = (
                "import django; django.setup(); from partisan_async.models import Task;"
                "from tests.testapp.partisan_tasks import *\n"
            )
            done = subprocess.run(
                [sys.executable, "-c", imports + code],
                env=env,
                capture_output=True,
                text=True,
                check=True,
            )
            return done.stdout.strip()

        shell(
            "from django.core.management import call_command; call_command('migrate', verbosity=0)"
        )
        with partisan("--async", "--workers_count", "1", DATABASE_URL=server.url) as supervisor:
            yield server, supervisor, shell


def test_without_psycopgs_lock_connections_are_renewed_and_dropped_all_the_same():
    """psycopg does not document it, and may come to do without."""
    one = Statement("SELECT 1 AS one", {})

    async def renew_and_drop():
        connection = Connection("default", "test", timedelta(seconds=10))
        await connection.execute(one)
        opened = connection._connection
        del opened.lock
        await connection.renew(one)
        assert opened.closed
        assert connection._connection is not opened
        renewed = connection._connection
        del renewed.lock
        await connection.close()
        assert renewed.closed

    asyncio.run(renew_and_drop())
