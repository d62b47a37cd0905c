"""Runs that take longer than they may: they end, the row says so, and nobody else notices."""

import asyncio
import contextlib
import signal
import time

import pytest
from django.db import connection

from partisan_async.exceptions import TaskTimeout
from partisan_async.models import Task
from partisan_async.supervisor.workers import time_limits
from partisan_async.testing import live_supervisor
from partisan_async.worker import alarm as alarms
from partisan_async.worker.async_limit import run_within
from tests.conftest import ended, marks, wait_until
from tests.testapp.models import Mark
from tests.testapp.partisan_tasks import (
    AsyncSleep,
    Endless,
    EndlessAfterWriting,
    EndlessAsync,
    EndlessRetried,
    LeaveAnAlarm,
    OverrunInThreads,
    QueryInThreads,
    Sleep,
    SleepAsLongAsItLikes,
    Write,
)

RAISED = "run() took longer than its time limit of 0.2 s."
KILLED = (
    "run() took longer than its time limit of 0.2 s and did not heed it, so its worker process was"
    " killed."
)


@pytest.fixture
def quick_to_kill(monkeypatch):
    monkeypatch.setattr(time_limits, "GRACE_SECONDS", 0.5)


def how_it_ended(task):
    task.refresh_from_db()
    last = task.errors[-1]
    return task.status, task.tries, task.lost, last["exception_class"], last["message"]


def timed_out(message, *, tries=1):
    return "error", tries, 0, "partisan_async.exceptions.TaskTimeout", message


def backends_asleep():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
            " AND datname = current_database()"
        )
        return cursor.fetchone()[0]


@pytest.mark.django_db(transaction=True)
class TestSync:
    @pytest.mark.parametrize("how", ["loop", "sleep", "query", "atomic"])
    def test_it_is_raised_in_the_run_and_the_next_task_is_unharmed(self, how):
        """`finally` runs, and no transaction and no query is left behind."""
        with live_supervisor(WORKERS_COUNT=1):
            before = Write("before").delay()
            wait_until(lambda: ended(before))
            task = Endless(how).delay()
            after = Write("after").delay()
            wait_until(lambda: ended(task, after))
            assert backends_asleep() == 0

        assert how_it_ended(task) == timed_out(RAISED)
        assert "go_on" in task.errors[-1]["traceback"]
        after.refresh_from_db()
        assert (after.status, after.errors) == ("finished", [])
        assert marks() == ["before", "cleaned up", "after"]
        pids = dict(Mark.objects.values_list("text", "pid"))
        assert pids["before"] == pids["cleaned up"] != pids["after"]

    @pytest.mark.parametrize("how", ["deaf", "C code"])
    def test_where_it_is_not_heeded_the_worker_is_killed(self, how, quick_to_kill):
        """Whether Python code swallows it, or C code never comes back to Python."""
        with live_supervisor(WORKERS_COUNT=1):
            task = Endless(how).delay()
            after = Write("after").delay()
            wait_until(ended)

        assert how_it_ended(task) == timed_out(KILLED)
        after.refresh_from_db()
        assert (after.status, after.lost) == ("finished", 0)
        assert marks() == [how, "after"]

    def test_a_limit_that_is_kept_is_not_noticed(self):
        with live_supervisor(WORKERS_COUNT=1, DEFAULT_TIMEOUT_SECONDS=1):
            for number in range(4):
                Sleep(0.4, number).delay()
            wait_until(ended)

        assert set(Task.objects.values_list("status", flat=True)) == {"finished"}

    def test_the_queues_limit_holds_where_the_class_has_none(self):
        with live_supervisor(WORKERS_COUNT=2, DEFAULT_TIMEOUT_SECONDS=0.3):
            limited = Sleep(60, "limited").delay()
            free = SleepAsLongAsItLikes(0.8, "free").delay()
            wait_until(ended)

        limited.refresh_from_db(), free.refresh_from_db()
        assert (limited.status, free.status) == ("error", "finished")

    @pytest.mark.parametrize("how", ["sleep", "deaf"])
    def test_retry_on_errors_may_name_it(self, how, quick_to_kill):
        """Raised in the run or told by the supervisor: it is the same error."""
        with live_supervisor(WORKERS_COUNT=1):
            task = EndlessRetried(how).delay()
            wait_until(ended)

        assert how_it_ended(task) == timed_out(RAISED if how == "sleep" else KILLED, tries=2)
        assert len(task.errors) == 2

    def test_a_run_may_catch_it_and_postpone_itself(self):
        with live_supervisor(WORKERS_COUNT=1):
            task = EndlessAfterWriting("postpone").delay()
            wait_until(ended)

        task.refresh_from_db()
        assert (task.status, task.postpones, task.errors) == ("finished", 1, [])

    def test_caught_around_a_savepoint_it_leaves_the_transaction_as_it_was(self):
        """It must not be finished, and all that it wrote be gone."""
        with live_supervisor(WORKERS_COUNT=1):
            task = EndlessAfterWriting("savepoint").delay()
            wait_until(ended)

        task.refresh_from_db()
        assert (task.status, marks()) == ("finished", ["kept", "cleaned up"])

    def test_an_alarm_that_a_task_left_behind_does_not_hit_the_next(self):
        with live_supervisor(WORKERS_COUNT=1):
            LeaveAnAlarm().delay()
            after = Sleep(0.5, "after").delay()
            wait_until(ended)

        after.refresh_from_db()
        assert (after.status, after.lost, after.suspect) == ("finished", 0, False)


@pytest.mark.django_db(transaction=True)
class TestAsync:
    @pytest.mark.parametrize("how", ["sleep", "query", "thread"])
    def test_it_is_cancelled_and_its_neighbours_go_on(self, how):
        """Also where its thread for the ORM waits for a query, which asgiref would wait for; and
        where asgiref lets the cancellation get lost."""
        with live_supervisor(WORKERS_COUNT=1):
            neighbour = AsyncSleep(1.5, "neighbour").delay()
            task = EndlessAsync(how).delay()
            wait_until(lambda: ended(task))
            assert backends_asleep() == 0
            wait_until(ended)

        assert how_it_ended(task) == timed_out(RAISED)
        neighbour.refresh_from_db()
        assert (neighbour.status, neighbour.claim_seq) == ("finished", 1)
        assert marks().count("cleaned up") == 1

    def test_it_cancels_no_query_of_another_run(self):
        """Threads that runs share had a connection of the one, and now have one of the other."""
        with live_supervisor(WORKERS_COUNT=1):
            overrun = OverrunInThreads().delay()
            query = QueryInThreads().delay()
            wait_until(ended)

        assert how_it_ended(overrun)[:3] == ("error", 1, 0)
        query.refresh_from_db()
        assert (query.status, query.errors) == ("finished", [])

    @pytest.mark.parametrize("how", ["deaf", "block"])
    def test_where_it_is_not_heeded_its_neighbours_run_again_unblamed(self, how, quick_to_kill):
        """Beside others nothing is proven: one that blocks the loop keeps all from ending."""
        with live_supervisor(WORKERS_COUNT=1):
            neighbour = AsyncSleep(2, "neighbour").delay()
            wait_until(lambda: len(marks()) == 1)
            task = EndlessAsync(how).delay()
            wait_until(ended)

        assert how_it_ended(task) == timed_out(KILLED)
        assert task.claim_seq == 2
        neighbour.refresh_from_db()
        assert (neighbour.status, neighbour.tries, neighbour.lost) == ("finished", 1, 0)
        assert neighbour.errors == []

    def test_a_limit_that_is_kept_is_not_noticed(self):
        with live_supervisor(WORKERS_COUNT=1, DEFAULT_TIMEOUT_SECONDS=2):
            for number in range(4):
                AsyncSleep(0.3, number).delay()
            wait_until(ended)

        assert set(Task.objects.values_list("status", flat=True)) == {"finished"}


class TestAlarm:
    def test_it_does_not_ring_after_its_block(self):
        """Not even where the signal was on its way."""
        alarm = alarms.Alarm(0.05)
        with alarm:
            pass
        alarm._ring()
        time.sleep(0.1)

        assert not alarm.rang
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)

    def test_it_rings_again_until_it_is_heard(self, monkeypatch):
        """What a `__del__` raises is printed and forgotten, and models have one in Django 6.1."""
        monkeypatch.setattr(alarms, "AGAIN_EVERY_SECONDS", 0.05)
        alarm = alarms.Alarm(0.05)
        with pytest.raises(TaskTimeout, match=r"limit of 0.05 s"), alarm:
            with contextlib.suppress(Exception):
                time.sleep(60)
            time.sleep(60)

        assert alarm.rang
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


class TestRunWithin:
    async def test_a_run_that_was_cancelled_before_it_began_did_not_succeed(self):
        """Cancelled by a neighbour that cancels all tasks: it must not look as if it returned."""

        async def run():
            raise AssertionError("it never begins")

        async def cancel_all():
            for task in asyncio.all_tasks() - {asyncio.current_task(), me}:
                task.cancel()

        me = asyncio.current_task()
        coroutine = run()
        running = asyncio.ensure_future(run_within(None, coroutine))
        asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(cancel_all()))
        await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {me}:
            task.cancel()
        error = await running
        coroutine.close()

        assert isinstance(error, asyncio.CancelledError)
