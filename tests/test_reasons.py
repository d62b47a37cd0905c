"""``manage.py partisan why``: each of its answers, by making it happen."""

import inspect
import io
import json
import re
import threading
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, transaction
from django.utils import timezone

from partisan_async import steering
from partisan_async.models import Supervisor, Task
from partisan_async.postgres import parameters
from partisan_async.steering import home
from partisan_async.testing import live_supervisor, run_pending
from tests.conftest import DEADLINE_SECONDS, ended, marks, wait_until
from tests.old_rows import before_the_constraints
from tests.testapp.models import Mark
from tests.testapp.partisan_tasks import (
    AsyncSleep,
    Die,
    Fail,
    Postpone,
    PutOff,
    Retry,
    Sleep,
    Write,
    WriteElsewhere,
    WriteFirst,
    WriteUnique,
)

CLOCK = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


def why(pk):
    """Return what is said, and as if it all had just happened."""
    out = io.StringIO()
    call_command("partisan", "why", str(getattr(pk, "pk", pk)), stdout=out)
    return re.sub(r"\b\d seconds?\b", "0 seconds", out.getvalue())


def soon(**delta):
    return timezone.now() + timedelta(**delta)


@pytest.fixture
def alive():
    """A supervisor's row, as if it had just beaten; nobody claims."""
    return Supervisor.objects.create(
        id="00000000-0000-0000-0000-00000000000a",
        hostname="here",
        process={"pid": 7},
        queue_name="default",
        workers=[{"pid": 8, "running": 0, "tasks": []}],
    )


def silence(supervisor):
    Supervisor.objects.filter(pk=supervisor.pk).update(last_seen_at=soon(minutes=-5))


def hold(supervisor):
    Task.objects.update(status="in_process", claimed_by=supervisor.pk, claimed_at=timezone.now())


@contextmanager
def another_session():
    """A session beside Django's own, in a transaction."""
    with psycopg.connect(**parameters.parameters("default"), application_name="caller") as session:
        yield session


@pytest.mark.django_db
class TestInterrupted:
    def test_a_task_that_all_its_supervisors_ended_under(self, alive):
        """Nobody takes it over any more, and it says the way out, which works."""
        task = Write().delay()
        hold(alive)
        silence(alive)
        Task.objects.update(interrupted=20)

        said = why(task)

        assert "It was cut short 20 times" in said
        steering.cancel([task.pk])
        assert f"To run it again: manage.py partisan retry {task.pk}" in why(task)
        assert steering.retry([task.pk]) == [task.pk]
        assert Task.objects.get().interrupted == 0

    def test_a_task_that_was_interrupted_and_waits(self, alive):
        task = Write().delay(execute_after=soon(hours=2))
        Task.objects.update(interrupted=2)

        assert "- Its last 2 claims ended without an outcome: the supervisor died, or" in why(task)


@pytest.mark.django_db
class TestWaiting:
    def test_scheduled(self, alive):
        task = Write().delay(execute_after=soon(hours=2, minutes=1))

        title, *sentences = why(task).splitlines()

        assert title == f"{task.pk} Write, Scheduled"
        (sentence,) = sentences
        due = timezone.localtime(Task.objects.get().execute_after)
        assert sentence == f"- It is scheduled until {due:%Y-%m-%d %H:%M:%S} (in 2 hours)."

    def test_the_queue_is_paused(self, alive):
        steering.pause("default")
        task = Write().delay()

        (sentence,) = why(task).splitlines()[1:]

        assert re.fullmatch(
            rf"- Queue 'default' was paused at {CLOCK} \(0 seconds ago\)\."
            " To resume it: manage.py partisan resume default",
            sentence,
        )

    def test_another_queue_is_paused(self, alive):
        steering.pause("elsewhere")

        assert "paused" not in why(Write().delay())

    def test_nobody_serves_the_queue(self, alive):
        (sentence,) = why(WriteElsewhere().delay()).splitlines()[1:]

        assert sentence.startswith("- Nobody serves queue 'elsewhere'. Start one: manage.py start")

    def test_no_supervisor_of_it_is_alive(self, alive):
        silence(alive)

        (sentence,) = why(Write().delay()).splitlines()[1:]

        assert sentence.startswith(
            "- No supervisor of queue 'default' is alive: the last sign of life was of here/7,"
            " 5 minutes ago. Start one:"
        )

    def test_all_its_supervisors_are_draining(self, alive):
        steering.drain(alive.pk)

        (sentence,) = why(Write().delay()).splitlines()[1:]

        assert sentence.startswith(
            "- All supervisors of queue 'default' are about to end, and start nothing more:"
            " here/7 is draining, runs 0 tasks, starts none. Start one:"
        )

    def test_it_is_next(self, alive):
        (sentence,) = why(Write().delay()).splitlines()[1:]

        assert sentence == "- It is next: nothing is before it, and 1 worker had nothing to do."

    def test_that_it_is_still_next_is_odd(self, alive):
        task = Write().delay()
        Task.objects.update(created_at=soon(hours=-1), execute_after=soon(hours=-1))

        assert "That it has been ready for 60 minutes is odd" in why(task)

    def test_no_worker_is_up_yet(self, alive):
        Supervisor.objects.update(workers=[])

        assert "It is next, as soon as a worker is up." in why(Write().delay())

    def test_others_are_before_it(self, alive):
        Write(1).delay()
        task = Write(2).delay()
        Write(3).delay()
        WriteFirst(4).delay()
        WriteElsewhere(5).delay()

        assert "It waits behind others: 2 tasks are to be claimed before it." in why(task)

    def test_of_many_that_are_before_it_no_more_are_counted_than_are_told(self, alive):
        """At a million the answer would take as long as the operator has patience."""
        Write.bulk_delay([Write(number) for number in range(3000)])
        last = Task.objects.last()
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE partisan_async_task")

        with CaptureRows() as captured:
            said = why(last)

        assert "more than 1,000 tasks are to be claimed before it" in said
        assert captured.most <= 1001

    def test_those_behind_it_are_not_read(self, alive):
        first = Write(0).delay()
        Write.bulk_delay([Write(number) for number in range(3000)])
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE partisan_async_task")

        with CaptureRows() as captured:
            why(first)

        assert captured.most <= 1

    def test_its_processor_is_not_known(self, alive):
        task = Write().delay()
        Task.objects.update(processor_class="Gone", unrecognised=2)

        said = why(task)

        assert "Processor class 'Gone' is not registered." in said
        assert (
            "does not know 'Gone', or whose run() takes other arguments, put it off 2 of 15" in said
        )

    def test_it_has_postponed_itself(self, alive):
        task = Postpone("one", 1, 100).delay()
        run_pending()

        assert "It has postponed itself 1 time." in why(task)

    def test_it_failed_and_is_tried_again(self, alive):
        task = Retry("one", 1).delay()
        Task.objects.update(
            status="scheduled",
            execute_after=soon(seconds=100),
            errors=[{"exception_class": "builtins.TimeoutError", "message": "one timed out"}],
        )

        assert "It has failed before, at last of builtins.TimeoutError: one timed out" in why(task)

    def test_names_and_messages_command_no_terminal(self, alive):
        task = Fail("ValueError", "red \x1b[31m and\nsecond line").delay()
        run_pending(errors="keep")
        Task.objects.update(processor_class="Evil\x1b[2J")

        said = why(task)

        assert "\x1b" not in said
        assert "builtins.ValueError: red \\x1b[31m and\\nsecond line" in said

    def test_rows_that_were_broken_by_hand_are_told_of_too(self, alive):
        task = Write().delay()
        with before_the_constraints():
            Task.objects.update(status="error", errors={"oops": 1}, finished_at=None)

        assert "ended in error at an unknown time" in why(task)


class CaptureRows:
    """How many rows the count of those before it has read, by EXPLAIN ANALYZE of that query."""

    most = 0

    def __enter__(self):
        self._wrapper = connection.execute_wrapper(self._look)
        self._wrapper.__enter__()
        return self

    def __exit__(self, *error):
        self._wrapper.__exit__(*error)

    def _look(self, execute, sql, params, many, context):
        if "AS before" in sql:
            with connection.connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", params)
                (plan,) = cursor.fetchone()
            plan = json.loads(plan) if isinstance(plan, str) else plan
            self.most = max(self._rows(plan[0]["Plan"]))
        return execute(sql, params, many, context)

    def _rows(self, node):
        yield node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        for child in node.get("Plans", ()):
            yield from self._rows(child)


@pytest.mark.django_db(transaction=True)
class TestLocked:
    def test_an_identical_call_that_was_ignored_is_not_committed(self, alive):
        """It cannot be claimed meanwhile, and nothing in its row says so."""
        task = WriteUnique().delay()
        ready, done = threading.Event(), threading.Event()

        def call():
            with transaction.atomic():
                assert WriteUnique().delay().is_twin
                ready.set()
                done.wait(DEADLINE_SECONDS)
            connection.close()

        caller = threading.Thread(target=call)
        caller.start()
        try:
            assert ready.wait(DEADLINE_SECONDS)
            said = why(task)
        finally:
            done.set()
            caller.join()

        assert "has locked its row, and it is claimed when that ends" in said
        assert "has locked its row" not in why(task)

    def test_who_it_is(self, alive):
        task = Write().delay()

        with another_session() as session:
            session.execute("SELECT 1 FROM partisan_async_task FOR UPDATE")
            said = why(task)
            pid = session.info.backend_pid

        assert f"of server process {pid} (caller, idle in transaction, 0 seconds)" in said


@pytest.mark.django_db
class TestTwins:
    def test_an_identical_call_waits(self):
        """Who asks for the first may look for the second."""
        first = WriteUnique().delay()
        run_pending()
        second = WriteUnique().delay()

        assert f"An identical call waits: {second.pk}." in why(first)

    def test_its_digest_was_given_up_for_a_twin(self, alive):
        first = WriteUnique("same").delay()
        Task.objects.update(status="error", finished_at=timezone.now())
        second = WriteUnique("same").delay()
        steering.retry([first.pk])

        assert f"An identical call waits: {second.pk}." in why(first)

    def test_calls_are_ignored_while_it_waits(self, alive):
        told = "Identical calls that are made while it waits are not added"

        assert told in why(WriteUnique().delay())
        assert told not in why(Write().delay())


@pytest.mark.django_db
class TestInProcess:
    def test_it_is_claimed_and_has_not_begun(self, alive):
        task = Write().delay()
        hold(alive)

        assert "It was claimed by here/7 at" in why(task)
        assert "(0 seconds ago), and is about to run there" in why(task)

    @pytest.mark.parametrize("others", [False, True])
    def test_its_supervisor_is_silent(self, alive, others):
        silence(alive)
        task = Write().delay()
        hold(alive)
        if others:
            Supervisor.objects.create(
                id="00000000-0000-0000-0000-00000000000c",
                hostname="there",
                process={},
                queue_name="default",
            )

        said = why(task)

        assert "The supervisor here/7 that claimed it has been silent for 5 minutes" in said
        assert ("another one takes it over, 30 seconds after" in said) == others
        assert ("and no other serves queue 'default'. Start one:" in said) != others

    def test_its_supervisor_is_gone(self):
        task = Write().delay()
        gone = "00000000-0000-0000-0000-00000000000b"
        Task.objects.update(status="in_process", claimed_by=gone, claimed_at=timezone.now())

        assert "It was claimed by a supervisor that is gone, and no other" in why(task)

    def test_how_long_it_runs_by_now(self, alive):
        """Its supervisor told it at its last beat; what is behind it is told the same."""
        task = Write().delay()
        hold(alive)
        run = {"id": task.pk, "processor": "Write", "seconds": 10}
        alive.workers = [{"pid": 8, "running": 1, "tasks": [run]}]
        alive.last_seen_at = soon(seconds=-20)
        alive.save()

        runs = r"for 3\d seconds"
        assert re.search(runs, why(task)), why(task)
        assert re.search(runs, why(Write().delay()))

    def test_its_supervisor_is_draining(self, alive):
        task = Write().delay()
        hold(alive)
        steering.drain(alive.pk)

        assert "here/7 is draining, runs 1 task, starts none: it ends when this" in why(task)


@pytest.mark.django_db
class TestElsewhere:
    @pytest.fixture(autouse=True)
    def copy(self, settings):
        home.adopt(home.Place("production", "", "shop"))
        settings.PARTISAN_HOME = "staging"

    def test_a_copy_says_so_first(self):
        """There nobody starts a supervisor by the advice to start one."""
        task = Write().delay()

        first = why(task).splitlines()[1]

        assert first.startswith("- This database belongs to 'production', and PARTISAN_HOME is")
        assert "manage.py partisan adopt --cancel" in first

    def test_not_of_what_has_ended(self):
        task = Write().delay()
        run_pending()

        assert "This database belongs" not in why(task)


@pytest.mark.django_db
class TestEnded:
    def test_it_has_failed(self):
        task = Fail("ValueError", "too bad").delay()
        run_pending(errors="keep")

        sentences = why(task).splitlines()[1:]
        line = inspect.getsourcelines(Fail.run)[1] + 3

        assert re.fullmatch(
            rf"- It has ended in error at {CLOCK} \(0 seconds ago\), after 1 try; the last took 0"
            " seconds\\.",
            sentences[0],
        )
        assert sentences[1:] == [
            f"- builtins.ValueError: too bad (at tests/testapp/partisan_tasks.py:{line} in run)",
            f"- To run it again: manage.py partisan retry {task.pk}",
        ]

    def test_it_was_cancelled(self):
        task = Write().delay()
        steering.cancel([task.pk])

        assert "partisan_async.exceptions.TaskCancelled: " in why(task)

    def test_how_long_a_cancelled_one_waited_is_no_duration(self):
        """Between its last run and its end it waited."""
        task = PutOff("error").delay()
        run_pending()
        Task.objects.update(last_attempted_at=soon(hours=-1))
        steering.cancel([task.pk])

        assert "after 1 try.\n" in why(task)
        assert "the last took" not in why(task)

    def test_it_has_finished(self):
        task = Write().delay()
        run_pending()

        (sentence,) = why(task).splitlines()[1:]

        assert re.fullmatch(
            rf"- It has finished at {CLOCK} \(0 seconds ago\), after 1 try; the last took 0"
            " seconds\\.",
            sentence,
        )

    def test_it_has_finished_at_the_second_try(self):
        task = Retry("one", 1).delay()
        run_pending()
        steering.run_now([task.pk])
        run_pending()

        assert "A try before had failed: builtins.TimeoutError: one timed out" in why(task)


@pytest.mark.django_db
class TestMissing:
    def test_it_was_deleted_or_pruned(self, settings):
        task = Write().delay()
        run_pending()
        steering.prune(timedelta(0))
        settings.PARTISAN_CONFIG = {
            "default": {"DELETE_TASKS_ON_COMPLETE": True},
            "imports": {
                "DELETE_TASKS_ON_COMPLETE": False,
                "KEEP_FINISHED_SECONDS": 604_800,
                "KEEP_FAILED_SECONDS": 2_592_000,
            },
        }

        with pytest.raises(CommandError) as raised:
            why(task)

        said = str(raised.value)
        assert f"There is no task {task.pk} any more: it finished and its row was deleted" in said
        assert "Rows of queue 'default' are deleted when they finish" in said
        assert "Rows of queue 'imports' are deleted 7 days after they finished" in said
        assert "Rows of queue 'imports' are deleted 30 days after they failed" in said

    def test_its_call_was_ignored(self):
        """A call that is ignored has had a number."""
        WriteUnique().delay()
        assert WriteUnique().delay().is_twin
        third = Write().delay()

        with pytest.raises(CommandError, match="meant for a call that was ignored"):
            why(third.pk - 1)

    def test_it_was_never_there(self):
        last = Write().delay().pk

        with pytest.raises(
            CommandError, match=f"No task .* {last + 1} yet: the last one is {last}"
        ):
            why(last + 1)

    @pytest.mark.parametrize("number", ["x", "-1", "1.5", "9" * 30, "²"])
    def test_no_number(self, number):
        with pytest.raises(CommandError, match="is no task's number: pass one such as"):
            why(number)


@pytest.mark.django_db(transaction=True)
class TestRealSupervisor:
    """What the workers do is true only if they do it."""

    @pytest.fixture
    def busy(self):
        with live_supervisor(WORKERS_COUNT=1, SHUTDOWN_GRACE_SECONDS=0, beat_seconds=0.2):
            task = Sleep(60, "long").delay()
            wait_until(lambda: "start long" in marks())
            self.wait_until_told(task)
            yield task

    def wait_until_told(self, *tasks):
        def told():
            (supervisor,) = Supervisor.objects.all()
            runs = [run["id"] for worker in supervisor.workers for run in worker["tasks"]]
            return set(runs) >= {task.pk for task in tasks}

        wait_until(told)

    def test_it_runs_in_that_process_for_so_long(self, busy):
        mark = Mark.objects.get(text="start long")

        said = why(busy)

        assert f"in worker process {mark.pid}, for " in said
        assert said.strip().endswith(("seconds.", "second."))

    def test_the_workers_are_busy_with_it(self, busy):
        said = why(Write().delay())

        assert (
            f"The only worker of queue 'default' is busy, the longest with: {busy.pk} Sleep for"
            in said
        )

    def test_it_drains(self, busy):
        steering.drain(Supervisor.objects.get().pk)

        assert "All supervisors of queue 'default' are about to end" in why(Write().delay())

    def test_one_that_ended_since_the_last_beat_keeps_nobody_busy(self):
        with live_supervisor(WORKERS_COUNT=1, beat_seconds=20, ttl_seconds=100):
            task = Sleep(0.5, "long").delay()
            wait_until(lambda: "start long" in marks())
            steering.resume("default")  # it beats now
            self.wait_until_told(task)
            wait_until(lambda: ended(task))
            # Nobody claims it: its row says that the supervisor serves another queue.
            Supervisor.objects.update(queue_name="elsewhere")

            said = why(WriteElsewhere().delay())

        assert "busy" not in said
        assert "1 worker had nothing to do" in said

    def test_a_suspect_waits_for_a_worker_of_its_own(self, busy):
        task = Write().delay()
        Task.objects.filter(pk=task.pk).update(suspect=True)

        assert "It was in a worker process that died, so it has to have a worker of its" in why(
            task
        )

    def test_one_that_took_workers_down(self):
        with live_supervisor(WORKERS_COUNT=1):
            task = Die("SIGKILL").delay()
            wait_until(lambda: ended(task))

        said = why(task)

        assert "partisan_async.exceptions.WorkerLost: " in said
        Task.objects.update(status="new", lost=2, finished_at=None)
        assert "It took its worker process down 2 times" in why(task)

    def test_async_tasks_side_by_side(self):
        with live_supervisor(WORKERS_COUNT=1, SHUTDOWN_GRACE_SECONDS=0, beat_seconds=0.2):
            tasks = [AsyncSleep(60, number).delay() for number in range(2)]
            wait_until(lambda: len(marks()) == 2)
            self.wait_until_told(*tasks)

            assert all("in worker process" in why(task) for task in tasks)
