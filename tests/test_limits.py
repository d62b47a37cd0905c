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
    AsyncWait,
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

RAISED = "run() took longer than its time limit of 1 s."
KILLED = (
    "run() took longer than its time limit of 1 s and did not heed it, so its worker process was"
    " killed."
)


@pytest.fixture(autouse=True)
def slow_to_kill(monkeypatch):
    """A run that heeds its limit may take its time to end, as on a busy machine."""
    monkeypatch.setattr(time_limits, "GRACE_SECONDS", 50)


@pytest.fixture
def quick_to_kill(slow_to_kill, monkeypatch):
    """For runs that heed no limit, however long they have."""
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
        assert marks() == ["after"]

    def test_a_limit_that_is_kept_is_not_noticed(self):
        """Though all of them together take longer."""
        with live_supervisor(WORKERS_COUNT=1, DEFAULT_TIMEOUT_SECONDS=4):
            for number in range(5):
                Sleep(1, number).delay()
            wait_until(ended)

        assert set(Task.objects.values_list("status", flat=True)) == {"finished"}

    def test_the_queues_limit_holds_where_the_class_has_none(self):
        with live_supervisor(WORKERS_COUNT=2, DEFAULT_TIMEOUT_SECONDS=0.3):
            limited = Sleep(60, "limited").delay()
            free = SleepAsLongAsItLikes(0.8, "free").delay()
            wait_until(ended)

        limited.refresh_from_db(), free.refresh_from_db()
        assert (limited.status, free.status) == ("error", "finished")

    @pytest.mark.parametrize(
        ("how", "grace", "message"),
        [
            pytest.param("sleep", "slow_to_kill", RAISED, id="sleep"),
            pytest.param("deaf", "quick_to_kill", KILLED, id="deaf"),
        ],
    )
    def test_retry_on_errors_may_name_it(self, how, grace, message, request):
        """Raised in the run or told by the supervisor: it is the same error."""
        request.getfixturevalue(grace)
        with live_supervisor(WORKERS_COUNT=1):
            task = EndlessRetried(how).delay()
            wait_until(ended)

        assert how_it_ended(task) == timed_out(message, tries=2)
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
            after = Sleep(3, "after").delay()
            wait_until(ended)

        after.refresh_from_db()
        assert (after.status, after.lost, after.suspect) == ("finished", 0, False)


@pytest.mark.django_db(transaction=True)
class TestAsync:
    @pytest.mark.parametrize("how", ["sleep", "query", "thread"])
    def test_it_is_cancelled_and_its_neighbours_go_on(self, how, tmp_path):
        """Also where its thread for the ORM waits for a query, which asgiref would wait for; and
        where asgiref lets the cancellation get lost."""
        go_on = tmp_path / "go on"
        with live_supervisor(WORKERS_COUNT=1):
            neighbour = AsyncWait(str(go_on)).delay()
            wait_until(lambda: marks() == ["waits"])
            neighbour.refresh_from_db()
            task = EndlessAsync(how).delay()
            wait_until(lambda: ended(task))
            assert backends_asleep() == 0
            go_on.touch()
            wait_until(ended)

        assert how_it_ended(task) == timed_out(RAISED)
        claim_seq = neighbour.claim_seq
        neighbour.refresh_from_db()
        assert (neighbour.status, neighbour.claim_seq) == ("finished", claim_seq)
        assert marks() == ["waits", "cleaned up", "goes on"]

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
    def test_where_it_is_not_heeded_its_neighbours_run_again_unblamed(
        self, how, quick_to_kill, tmp_path, caplog
    ):
        """Beside others nothing is proven: one that blocks the loop keeps all from ending."""
        go_on = tmp_path / "go on"
        with live_supervisor(WORKERS_COUNT=1):
            neighbour = AsyncWait(str(go_on)).delay()
            wait_until(lambda: marks() == ["waits"])
            neighbour.refresh_from_db()
            first = Task.objects.filter(
                pk=neighbour.pk, status="in_process", claim_seq=neighbour.claim_seq
            )
            assert first.exists()
            task = EndlessAsync(how).delay()
            wait_until(lambda: not first.exists())
            go_on.touch()
            wait_until(ended)

        assert how_it_ended(task) == timed_out(KILLED)
        overran = [each for each in caplog.records if getattr(each, "event", "") == "overran"]
        assert [each.task_id for each in overran] == [task.pk] * 2
        assert overran[0].claim_seq < overran[1].claim_seq == task.claim_seq
        neighbour.refresh_from_db()
        assert (neighbour.status, neighbour.tries, neighbour.lost) == ("finished", 1, 0)
        assert neighbour.errors == []
        assert marks() == ["waits", "waits", "goes on"]

    def test_a_limit_that_is_kept_is_not_noticed(self):
        with live_supervisor(WORKERS_COUNT=1, DEFAULT_TIMEOUT_SECONDS=20):
            for number in range(4):
                AsyncSleep(0.3, number).delay()
            wait_until(ended)

        assert set(Task.objects.values_list("status", flat=True)) == {"finished"}


class TestAlarm:
    def test_it_does_not_ring_after_its_block(self):
        """Not even where the signal was on its way."""
        alarm = alarms.Alarm(1)
        with alarm:
            pass
        alarm._ring()
        time.sleep(1.2)

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
