"""Workers that die, and who is blamed for it."""

import logging
import os
import signal

import pytest
from django.db import connection

from partisan_async import steering
from partisan_async.models import Task
from partisan_async.supervisor import dispatcher
from partisan_async.supervisor.workers import time_limits
from partisan_async.testing import live_supervisor
from tests.claims import claim
from tests.conftest import ended, marks, wait_until
from tests.testapp.models import Mark
from tests.testapp.partisan_tasks import (
    AskInThreads,
    AsyncSleep,
    BlockTheLoop,
    ConnectInVain,
    Die,
    DieAsync,
    ExecuteDeaf,
    Fail,
    ForkAsync,
    Misbehave,
    Nothing,
    Sleep,
    Write,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def kept(monkeypatch):
    """A supervisor keeps what it has claimed, however long a busy machine takes to start it."""
    monkeypatch.setattr(dispatcher, "AHEAD_SECONDS", 600)


def worker_pid(task):
    wait_until(lambda: Mark.objects.filter(text=f"start {task.args[1]}").exists())
    return Mark.objects.get(text=f"start {task.args[1]}").pid


def backends():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name NOT LIKE 'partisan_async%'"
        )
        return cursor.fetchone()[0]


class TestTheEndOfTheTask:
    @pytest.mark.parametrize("how", ["SystemExit", "KeyboardInterrupt", "StopIteration"])
    def test_an_exit_by_exception_ends_the_task_and_not_the_worker(self, how):
        with live_supervisor(WORKERS_COUNT=1):
            task = Die(how).delay()
            after = Write("after").delay()
            wait_until(ended)

        task.refresh_from_db(), after.refresh_from_db()
        assert (task.status, task.tries, task.lost) == ("error", 1, 0)
        assert task.errors[0]["exception_class"] == f"builtins.{how}"
        assert task.worker_ids == after.worker_ids


class TestBlame:
    @pytest.mark.parametrize(
        ("how", "words"),
        [
            ("SIGKILL", "was killed by SIGKILL"),
            ("SIGSEGV", "was killed by SIGSEGV"),
            ("exit", "exited with code 7"),
        ],
    )
    def test_what_kills_its_worker_three_times_alone_ends_in_error(self, how, words):
        with live_supervisor(WORKERS_COUNT=1):
            task = Die(how).delay()
            after = Write("after").delay()
            wait_until(ended)

        task.refresh_from_db(), after.refresh_from_db()
        assert (task.status, task.lost) == ("error", 3)
        assert [error["exception_class"] for error in task.errors] == [
            "partisan_async.exceptions.WorkerLost"
        ] * 3
        assert all(words in error["message"] for error in task.errors)
        assert marks().count("dying") == 3
        assert (after.status, after.lost, after.suspect) == ("finished", 0, False)

    def test_a_kill_from_outside_costs_one_run(self):
        with live_supervisor(WORKERS_COUNT=1):
            task = Sleep(1, "x").delay()
            os.kill(worker_pid(task), signal.SIGKILL)
            wait_until(ended)

        task.refresh_from_db()
        assert (task.status, task.lost, task.tries) == ("finished", 1, 1)
        assert marks() == ["start x", "start x", "end x"]

    def test_its_next_run_waits_for_no_beat(self):
        with live_supervisor(WORKERS_COUNT=2, beat_seconds=60, ttl_seconds=200):
            task = Sleep(0.5, "x").delay()
            os.kill(worker_pid(task), signal.SIGKILL)
            wait_until(ended)

        task.refresh_from_db()
        assert (task.status, task.lost) == ("finished", 1)

    def test_neighbours_on_the_event_loop_are_suspects_and_not_blamed(self):
        """In company nobody can tell who did it; each runs again, alone."""
        with live_supervisor(WORKERS_COUNT=1, ASYNC_CONCURRENCY=5):
            Nothing().delay()
            wait_until(ended)
            innocents = [AsyncSleep(0.6, number).delay() for number in range(3)]
            poison = DieAsync(0.2).delay()
            wait_until(ended)

        poison.refresh_from_db()
        assert (poison.status, poison.lost) == ("error", 3)
        for task in innocents:
            task.refresh_from_db()
            assert (task.status, task.lost) == ("finished", 0)
            assert not task.errors

    def test_suspects_run_with_nothing_beside_them(self):
        tasks = [AsyncSleep(0.3, number).delay() for number in range(4)]
        Task.objects.update(suspect=True)

        with live_supervisor(WORKERS_COUNT=2, ASYNC_CONCURRENCY=5):
            wait_until(ended)

        assert not Task.objects.exclude(status="finished").exists()
        for pid in set(Mark.objects.values_list("pid", flat=True)):
            turns = list(Mark.objects.filter(pid=pid).order_by("at").values_list("text", flat=True))
            assert [turn.split()[0] for turn in turns] == ["start", "end"] * (len(turns) // 2)
        assert len(tasks) == 4

    def test_what_took_a_worker_down_is_never_batched_again(self):
        """Not even after a run that ended well enough to be retried."""
        for suspect in (claim(lost=1, suspect=False), claim(lost=0, suspect=True)):
            assert suspect.alone
        assert not claim(lost=0, suspect=False).alone

    def test_a_suspect_gets_its_worker_however_busy_the_event_loops_are(self):
        """With tasks that come and go side by side, no worker would ever be empty."""
        suspect = AsyncSleep(0.1, "suspect").delay(priority=50)
        Task.objects.update(suspect=True)
        others = [AsyncSleep(0.2 + n / 100, n).delay() for n in range(60)]

        with live_supervisor(WORKERS_COUNT=1, ASYNC_CONCURRENCY=3, MAX_QUEUE_SIZE=100):
            Task.objects.filter(pk=suspect.pk).update(priority=1)
            wait_until(lambda: ended(suspect))

        assert not ended(*others)

    def test_a_suspect_that_ends_well_is_none_any_more(self):
        Write("x").delay()
        Task.objects.update(suspect=True)

        with live_supervisor(WORKERS_COUNT=1):
            wait_until(ended)

        assert not Task.objects.filter(suspect=True).exists()

    def test_those_of_its_batch_that_had_not_started_are_not_even_suspects(self, kept):
        with live_supervisor(WORKERS_COUNT=1, MAX_QUEUE_SIZE=50) as supervisor:
            Nothing(0).delay()
            wait_until(ended)
            for name in ("Nothing", "Die"):
                supervisor.parts.dispatcher._pace._averages[name] = (
                    0.0001  # as after thousands of short runs
                )
            poison = Die("SIGKILL").delay(priority=1)
            others = [Nothing(number).delay() for number in range(20)]
            wait_until(ended)

        poison.refresh_from_db()
        assert (poison.status, poison.lost) == ("error", 3)
        for task in others:
            task.refresh_from_db()
            assert (task.status, task.lost, task.suspect) == ("finished", 0, False)
            assert task.claim_seq == 1

    def test_the_queue_flows_on_beside_a_poisonous_task(self):
        with live_supervisor(WORKERS_COUNT=2):
            poison = [Die("SIGKILL").delay() for _ in range(2)]
            others = [Write(number).delay() for number in range(30)]
            wait_until(ended)

        assert all(Task.objects.get(pk=task.pk).status == "error" for task in poison)
        assert all(Task.objects.get(pk=task.pk).status == "finished" for task in others)


class TestDeaths:
    """Whoever is woken by their number wants to hear of crashes, and not of cancels."""

    def test_what_the_supervisor_kills_is_counted_apart(self, monkeypatch):
        monkeypatch.setattr(time_limits, "GRACE_SECONDS", 0.1)
        with live_supervisor(WORKERS_COUNT=1) as supervisor:
            cancelled = Sleep(600, "cancelled").delay()
            worker_pid(cancelled)
            steering.cancel([cancelled.pk])
            ExecuteDeaf("SELECT pg_sleep(600)").delay()
            wait_until(ended)
            wait_until(lambda: supervisor.parts.dispatcher.kills == 2)
            assert supervisor.parts.dispatcher.deaths == 0

            crashed = Sleep(600, "crashed").delay()
            os.kill(worker_pid(crashed), signal.SIGKILL)
            wait_until(lambda: supervisor.parts.dispatcher.deaths == 1)
            assert supervisor.parts.dispatcher.kills == 2


class TestMisbehaviour:
    @pytest.mark.parametrize("how", ["fork", "thread", "signals", "directory", "terminate", "feed"])
    def test_what_a_task_leaves_behind_does_not_keep_the_supervisor(self, how, kept):
        with live_supervisor(WORKERS_COUNT=1):
            task = Misbehave(how).delay()
            after = [Write(number).delay() for number in range(3)]
            wait_until(ended)

        assert Task.objects.get(pk=task.pk).status == "finished"
        assert all(Task.objects.get(pk=t.pk).claim_seq == 1 for t in after)

    def test_a_fork_on_the_event_loop_is_no_second_worker(self):
        with live_supervisor(WORKERS_COUNT=1):
            beside = [AsyncSleep(0.5, number).delay() for number in range(3)]
            task = ForkAsync().delay()
            wait_until(ended)

        for each in (task, *beside):
            each.refresh_from_db()
            # Each ran once: one that a busy worker has not begun may be claimed again.
            assert (each.status, len(each.worker_ids), each.lost) == ("finished", 1, 0)

    @pytest.mark.parametrize(
        "how",
        [
            ["close everything"],
            *(["link", line] for line in ("no frame", "1", "[]", "{}", '["Done"]', "null,[")),
            *(
                ["link", line]
                for line in (
                    '["Done",1,"x",false,"Returned"]',
                    f'["Done",1,{"9" * 400},false,"Returned"]',
                    '["Done",1,1,false,"PostponeAsked","x"]',
                    '["Started",1,"x"]',
                    '["Revoked","x",null]',
                )
            ),
        ],
    )
    def test_a_worker_whose_link_was_closed_or_written_to_is_replaced(self, how):
        """It could not be heard any more, or say anything about the other tasks."""
        with live_supervisor(WORKERS_COUNT=1):
            task = Misbehave(*how).delay()
            after = Write("after").delay()
            wait_until(ended)

        task.refresh_from_db(), after.refresh_from_db()
        assert (task.status, task.lost) == ("error", 3)
        assert (after.status, after.lost) == ("finished", 0)

    @pytest.mark.parametrize("name", ["a.b\\u0000c", "a.\\ud800", "\\u0000", ""])
    def test_an_error_of_a_name_that_no_class_can_have_ends_the_task_alone(self, name):
        """It is told to log handlers as an exception, of a class by that name."""
        words = f'["Done",1,5,false,"Raised",["{name}","m","t",[]],null]'
        with live_supervisor(WORKERS_COUNT=1):
            task = Misbehave("last words", words).delay()
            wait_until(lambda: ended(task))
            after = Write("after").delay()
            wait_until(lambda: ended(after))

        task.refresh_from_db(), after.refresh_from_db()
        assert (task.status, task.lost) == ("error", 0)
        assert after.status == "finished"

    def test_a_log_handler_that_raises_ends_no_supervisor(self):
        """Lines only tell; logging itself catches no more than what its own handlers raise."""

        class Broken(logging.Handler):
            def handle(self, record):
                raise RuntimeError("the site's")

        broken = Broken(logging.ERROR)
        with live_supervisor(WORKERS_COUNT=1):
            logging.getLogger("partisan_async").addHandler(broken)
            try:
                task = Fail("ValueError", "boom").delay()
                wait_until(lambda: ended(task))
            finally:
                logging.getLogger("partisan_async").removeHandler(broken)
            after = Write("after").delay()
            wait_until(lambda: ended(after))

        assert Task.objects.get(pk=task.pk).status == "error"
        assert Task.objects.get(pk=after.pk).status == "finished"

    def test_no_connection_stays_in_the_threads_of_an_async_task(self):
        """Nobody would close it, or open another one after a restart of the server."""
        with live_supervisor(WORKERS_COUNT=1):
            before = backends()
            tasks = [AskInThreads().delay() for _ in range(3)]
            wait_until(lambda: ended(*tasks))
            after = backends()

        assert set(Task.objects.values_list("status", flat=True)) == {"finished"}
        assert after == before

    def test_a_connection_whose_start_failed_is_not_the_next_tasks(self):
        with live_supervisor(WORKERS_COUNT=1):
            task = ConnectInVain().delay()
            after = Write("after").delay()
            wait_until(ended)

        task.refresh_from_db(), after.refresh_from_db()
        assert task.errors[-1]["exception_class"] == "django.db.utils.OperationalError"
        assert (after.status, after.lost) == ("finished", 0)

    def test_nor_if_the_task_said_nothing_of_it(self):
        """In a batch the next task begins at once."""
        for number in range(20):
            for task in (*[Nothing()] * 5, ConnectInVain("quietly"), Write(number)):
                task.delay()
        with live_supervisor(WORKERS_COUNT=1):
            wait_until(ended)

        assert set(Task.objects.values_list("status", flat=True)) == {"finished"}

    def test_a_death_is_seen_though_a_grandchild_holds_the_link(self):
        with live_supervisor(WORKERS_COUNT=1):
            task = Misbehave("hold the link").delay()
            wait_until(ended)

        task.refresh_from_db()
        assert (task.status, task.lost) == ("error", 3)
        assert "was killed by SIGKILL" in task.errors[-1]["message"]


class TestBlockedLoop:
    def test_a_worker_whose_event_loop_is_blocked_holds_up_nobody(self, tmp_path):
        """Running fewest tasks it gets the next ones, and would keep them as long as it likes."""
        with live_supervisor(WORKERS_COUNT=2):
            beside = [AsyncSleep(6, f"beside {number}").delay() for number in range(2)]
            wait_until(lambda: len(marks()) == 2)
            blocks = BlockTheLoop(6, str(tmp_path / "blocked")).delay()
            wait_until((tmp_path / "blocked").exists)
            others = [AsyncSleep(0, number).delay() for number in range(30)]
            wait_until(lambda: ended(*others))
            assert not ended(blocks)
            wait_until(ended)

        for task in (*beside, blocks, *others):
            task.refresh_from_db()
            assert (task.status, task.tries, task.lost) == ("finished", 1, 0)


class TestSlots:
    def test_a_killed_worker_is_replaced(self):
        with live_supervisor(WORKERS_COUNT=1):
            first = Sleep(0, "first").delay()
            wait_until(lambda: ended(first))
            os.kill(worker_pid(first), signal.SIGKILL)
            second = Sleep(0, "second").delay()
            wait_until(ended)

        second.refresh_from_db()
        assert second.status == "finished"
        assert worker_pid(first) != worker_pid(second)

    def test_thirty_deaths_leave_nothing_behind(self):
        def descriptors():
            return len(os.listdir("/proc/self/fd"))

        with live_supervisor(WORKERS_COUNT=2):
            Nothing(-1).delay()
            wait_until(ended)
            before = descriptors()
            for number in range(10):
                Die("SIGKILL").delay()
                Nothing(number).delay()
            wait_until(ended)
            wait_until(lambda: descriptors() <= before + 4)
        assert Task.objects.filter(status="error", lost=3).count() == 10
