"""What an operator does to tasks, queues and supervisors, and what supervisors tell of them."""

import io
import threading
import uuid
from contextlib import contextmanager, suppress
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.utils import timezone

from partisan_async import steering, store
from partisan_async.models import Supervisor, Tally, Task
from partisan_async.testing import live_supervisor, run_pending
from tests.conftest import ended, marks, wait_until
from tests.site_rules import refusal
from tests.testapp.partisan_tasks import (
    AsyncSleep,
    Die,
    Fail,
    Postpone,
    Retry,
    Sleep,
    Wait,
    Write,
    WriteElsewhere,
    WriteUnique,
)


def partisan(*arguments):
    out = io.StringIO()
    call_command("partisan", *map(str, arguments), stdout=out)
    return out.getvalue()


def soon(**delta):
    return timezone.now() + timedelta(**delta)


@contextmanager
def claimed_meanwhile():
    """Have a supervisor claim what is ready when tasks were chosen, and before they are ended."""
    me, claimed = uuid.uuid4(), []

    def on_statement(execute, sql, *arguments):
        if "SET status = 'error'" in sql and not claimed:
            ttl = timedelta(seconds=30)
            said = store.Beat(me, "default")
            beat = store.beat([said], hostname="h", process="{}", ttl=ttl)
            with connection.cursor() as cursor:
                for statement in (beat, store.claim(me, "default", 10, ttl)):
                    cursor.execute(*statement)
                    claimed[:] = cursor.fetchall()
        return execute(sql, *arguments)

    with connection.execute_wrapper(on_statement):
        yield
    assert claimed


@pytest.mark.django_db
class TestClaimedMeanwhile:
    """Who cancels what waits means none that runs: that would be killed with its worker."""

    def test_it_is_not_cancelled_from_code(self):
        tasks = [Write(number).delay() for number in range(3)]
        later = Write(4).delay(execute_after=soon(hours=1))

        with claimed_meanwhile():
            done = steering.cancel(queue_name="default", statuses=["new", "scheduled"])

        assert done == [later.pk]
        rows = Task.objects.filter(pk__in=[task.pk for task in tasks])
        assert {row.status for row in rows} == {"in_process"}

    @pytest.mark.parametrize("by_id", [True, False])
    def test_it_is_not_cancelled_by_the_command(self, by_id):
        task, later = Write(1).delay(), Write(2).delay(execute_after=soon(hours=1))
        which = [task.pk, later.pk] if by_id else ["--queue", "default", "--yes"]

        with claimed_meanwhile(), suppress(CommandError):  # the command says so of those named
            partisan("cancel", *which, "--status", "new", "--status", "scheduled")

        assert [Task.objects.get(pk=each.pk).status for each in (task, later)] == [
            "in_process",
            "error",
        ]

    def test_without_a_status_it_is(self):
        task = Write(1).delay()

        with claimed_meanwhile():
            assert steering.cancel(queue_name="default") == [task.pk]


@pytest.mark.django_db
class TestByHand:
    def test_retry_begins_anew(self):
        task = Fail("ValueError").delay()
        run_pending(errors="keep")

        assert partisan("retry", task.pk) == "retry: 1 task.\n"

        task.refresh_from_db()
        assert (task.status, task.tries, task.finished_at) == ("new", 0, None)
        assert len(task.errors) == 1
        assert len(run_pending(errors="keep")) == 1

    def test_a_row_that_is_refused_holds_up_none_that_is_steered_with_it(self):
        """A trigger of the site's, or a foreign key, and thousands that are chosen together."""
        tasks = [Write(number).delay() for number in range(9)]
        with refusal(f"NEW.id = {tasks[3].pk}"):
            with pytest.raises(CommandError, match=f"The database refuses it for {tasks[3].pk}\\."):
                partisan("cancel", *(task.pk for task in tasks))
            with pytest.raises(CommandError, match="The database refuses it: the site refuses"):
                partisan("cancel", tasks[3].pk)
        rows = Task.objects.filter(status="new")
        assert [task.pk for task in rows] == [tasks[3].pk]

    def test_retry_beside_an_identical_call_that_waits(self):
        task = WriteUnique().delay()
        Task.objects.update(status="error", finished_at=timezone.now())
        WriteUnique().delay()

        partisan("retry", task.pk)

        assert len(run_pending()) == 2

    def test_only_what_failed_is_retried(self):
        task = Write().delay()

        with pytest.raises(
            CommandError, match=f"that are in error: 0 is not there, {task.pk} is new"
        ):
            partisan("retry", task.pk, 0)

    def test_run_now(self):
        task = Write("now").delay(execute_after=soon(hours=1))

        partisan("run-now", task.pk)
        run_pending()

        assert marks() == ["now"]

    def test_cancel_what_waits(self):
        tasks = [Write().delay(), Write().delay(execute_after=soon(hours=1))]

        partisan("cancel", *(task.pk for task in tasks))

        assert run_pending() == []
        for task in tasks:
            task.refresh_from_db()
            assert task.status == "error"
            assert task.errors[0]["exception_class"] == "partisan_async.exceptions.TaskCancelled"

    def test_by_filter(self):
        Write.bulk_delay([Write(number) for number in range(3)])
        WriteElsewhere().delay()

        assert partisan("cancel", "--processor", "Write", "--yes") == "cancel: 3 tasks.\n"
        assert Task.objects.get(status="new").processor_class == "WriteElsewhere"

    def test_without_any_filter_nothing_is_done(self):
        with pytest.raises(CommandError, match="Say which"):
            partisan("cancel", "--yes")

    @pytest.mark.parametrize(("answer", "left"), [("y", 0), ("n", 1), ("", 1)])
    def test_it_asks_first(self, monkeypatch, answer, left):
        Write().delay()
        asked = []
        monkeypatch.setattr("builtins.input", lambda what: asked.append(what) or answer)

        if left:
            with pytest.raises(CommandError, match="Nothing was done"):
                partisan("cancel", "--queue", "default")
        else:
            partisan("cancel", "--queue", "default")

        assert asked == ["cancel: 1 task of queue 'default'? [y/N] "]
        assert Task.objects.filter(status="new").count() == left

    def test_prune(self):
        for number in range(2500):
            Write(number).delay()
        Task.objects.update(status="finished", finished_at=soon(days=-8))
        old_failure, young = Fail("ValueError").delay(), Write().delay()
        run_pending(errors="keep")
        Task.objects.filter(pk=old_failure.pk).update(finished_at=soon(days=-8))

        finished = partisan("prune", "--older-than", "7d", "--status", "finished", "--yes")
        assert finished == "2,500 tasks deleted.\n"
        assert partisan("prune", "--older-than", "7d", "--yes") == "1 task deleted.\n"
        assert Task.objects.get() == young

    @pytest.mark.parametrize("age", ["7", "d", "-1d", "7 days", "9999999d"])
    def test_an_odd_age_is_refused(self, age):
        with pytest.raises(CommandError, match="is no age"):
            partisan("prune", f"--older-than={age}", "--yes")


@pytest.mark.django_db(transaction=True)
class TestCancelWhatRuns:
    @pytest.mark.parametrize("processor", [Sleep, AsyncSleep])
    def test_it_is_killed_at_once_and_others_go_on(self, processor, caplog):
        caplog.set_level("INFO", logger="partisan_async")
        with live_supervisor(WORKERS_COUNT=1):
            task = processor(600, "long").delay()
            wait_until(lambda: "start long" in marks())
            after = Write("after").delay()

            partisan("cancel", task.pk)
            wait_until(lambda: ended(after))

        task.refresh_from_db()
        assert (task.status, len(task.errors)) == ("error", 1)
        assert "end long" not in marks()
        assert f"killed: cancelled, or taken over by another supervisor: {task.pk} " in caplog.text
        assert f"given back {task.pk} " not in caplog.text

    @pytest.mark.parametrize("processor", [Sleep, AsyncSleep])
    def test_one_that_polls_kills_it_at_its_next_beat(self, processor):
        """NOTIFY does not reach it, and a beat told it of unknown rows alone."""
        with live_supervisor(WORKERS_COUNT=1, listen=False, beat_seconds=0.5):
            task = processor(600, "long").delay()
            wait_until(lambda: "start long" in marks())

            partisan("cancel", task.pk)
            after = Write("after").delay()
            wait_until(lambda: ended(after))

        task.refresh_from_db()
        assert (task.status, len(task.errors)) == ("error", 1)
        assert "end long" not in marks()

    def test_one_whose_end_its_worker_has_written_is_not_killed(self):
        """An atomic one has finished before the supervisor hears of it, and beats come between."""
        with live_supervisor(WORKERS_COUNT=1, beat_seconds=0.2):
            task = Sleep(1.5, "long").delay()
            wait_until(lambda: "start long" in marks())

            Task.objects.filter(pk=task.pk).update(
                status="finished", finished_at=timezone.now(), claimed_by=None
            )

            wait_until(lambda: "end long" in marks())

    def test_retry_wakes_the_supervisor(self):
        with live_supervisor(WORKERS_COUNT=1, beat_seconds=60, ttl_seconds=200):
            task = Die("SIGKILL").delay()
            wait_until(lambda: ended(task))
            call = {"args": ["again"], "kwargs": {}}
            Task.objects.update(processor_class="Write", arguments=call)

            partisan("retry", task.pk)
            wait_until(lambda: "again" in marks())


def tallied(**which):
    """What all minutes together tell of a processor."""
    rows = Tally.objects.filter(**which)
    return {
        name: sum(getattr(row, name) for row in rows)
        for name in ("finished", "failed", "retried", "postponed", "lost", "run_seconds")
    }


@pytest.mark.django_db(transaction=True)
class TestPause:
    """With slow beats, so that what happens at once was told by NOTIFY."""

    @pytest.fixture
    def supervisor(self):
        with live_supervisor(WORKERS_COUNT=1, beat_seconds=20, ttl_seconds=100) as supervisor:
            yield supervisor

    def held(self):
        return Task.objects.filter(status="in_process").count()

    def test_what_runs_goes_on_and_nothing_starts_until_it_is_resumed(self, supervisor, caplog):
        caplog.set_level("INFO", "partisan_async")
        running = Sleep(1, "running").delay()
        wait_until(lambda: "start running" in marks())
        waiting = Write.bulk_delay([Write(number) for number in range(20)])

        assert steering.pause("default")
        wait_until(lambda: ended(running))
        wait_until(lambda: not self.held())
        Write("late").delay()
        wait_until(lambda: "paused: queue 'default'" in caplog.text)

        assert marks() == ["start running", "end running"]
        assert Task.objects.filter(status="new").count() == 21

        assert steering.resume("default")
        wait_until(lambda: ended(*waiting))

    def test_what_was_claimed_and_not_started_is_given_back(self, supervisor):
        """Else a paused queue would go on for as long as its buffers last."""
        measured = Sleep.bulk_delay([Sleep(0.02, number) for number in range(5)])
        wait_until(lambda: ended(*measured))
        Sleep.bulk_delay([Sleep(0.02, number) for number in range(5, 400)])
        wait_until(lambda: "start 20" in marks())

        steering.pause("default")
        wait_until(lambda: not self.held())
        done = Task.objects.filter(status="finished").count()

        assert done < 200
        assert Task.objects.filter(status="new").count() == 400 - done

    def test_another_queue_does_not_care(self, supervisor):
        steering.pause("elsewhere")
        task = Write().delay()

        wait_until(lambda: ended(task))

    def test_one_that_starts_during_the_pause_starts_nothing(self):
        task = Write().delay()
        steering.pause("default")

        with live_supervisor(WORKERS_COUNT=1):
            Supervisor.objects.get()

        task.refresh_from_db()
        assert task.claim_seq == 0

    def test_twice_is_once(self):
        assert steering.pause("default")
        assert not steering.pause("default")
        assert steering.resume("default")
        assert not steering.resume("default")


@pytest.mark.django_db(transaction=True)
class TestDrain:
    def test_what_runs_ends_however_long_it_takes_and_nothing_else_starts(self, tmp_path):
        """A stop would kill it after the grace time."""
        path = tmp_path / "go on"
        with live_supervisor(
            WORKERS_COUNT=1, SHUTDOWN_GRACE_SECONDS=0, beat_seconds=20, ttl_seconds=100
        ) as supervisor:
            running = Wait(str(path)).delay()
            wait_until(lambda: "waits" in marks())
            waiting = Write().delay()

            assert steering.drain(supervisor.id)
            wait_until(lambda: supervisor.parts.dispatcher.pauses.stopped)
            path.touch()
            wait_until(lambda: not Supervisor.objects.exists())
            # What the end of the block stops has closed its loop.
            wait_until(lambda: "live supervisor" not in [t.name for t in threading.enumerate()])

        running.refresh_from_db()
        waiting.refresh_from_db()
        assert (running.status, running.claim_seq) == ("finished", 1)
        assert waiting.status == "new"

    def test_a_stop_hastens_it(self):
        with live_supervisor(WORKERS_COUNT=1, SHUTDOWN_GRACE_SECONDS=0.2) as supervisor:
            running = Sleep(600, "running").delay()
            wait_until(lambda: "start running" in marks())
            steering.drain(supervisor.id)
            wait_until(lambda: Supervisor.objects.get().draining)
            # The end of the block is its first stop.

        running.refresh_from_db()
        assert running.status == "new"

    def test_of_one_that_is_not_there(self, db):
        assert not steering.drain(uuid.uuid4())


@pytest.mark.django_db(transaction=True)
class TestTally:
    def test_what_became_of_runs_is_added_up_per_processor(self):
        with live_supervisor(WORKERS_COUNT=2):
            tasks = Write.bulk_delay([Write(number) for number in range(7)])
            tasks += [Fail("ValueError").delay(), Retry("one", 1).delay()]
            tasks += [Postpone("two", 2, 0).delay(), Die("SIGKILL").delay()]
            wait_until(lambda: ended(*tasks))

        assert tallied(processor_class="Write")["finished"] == 7
        assert tallied(processor_class="Fail")["failed"] == 1
        retry = tallied(processor_class="Retry")
        assert (retry["retried"], retry["finished"]) == (1, 1)
        assert retry["run_seconds"] > 0
        postpone = tallied(processor_class="Postpone")
        assert (postpone["postponed"], postpone["finished"]) == (2, 1)
        die = tallied(processor_class="Die")
        assert (die["lost"], die["failed"]) == (2, 1)

    def test_it_waited_from_due_to_claimed(self):
        task = Write().delay()
        Task.objects.filter(pk=task.pk).update(
            created_at=soon(seconds=-90), execute_after=soon(seconds=-60)
        )

        with live_supervisor(WORKERS_COUNT=1):
            wait_until(lambda: ended(task))

        row = Tally.objects.get()
        assert 60 <= row.longest_wait_seconds < 90
        assert row.wait_seconds == row.longest_wait_seconds

    def test_two_supervisors_add_to_the_same_minute(self, db):
        row = ("Write", 1, 0, 0, 0, 0, 0, 2.5, 1.0, 2.5, 1.0)
        with connection.cursor() as cursor:
            cursor.execute(*store.tally("default", [row]))
            cursor.execute(*store.tally("default", [row, ("Read", *row[1:])]))

        told = tallied(processor_class="Write")

        assert (told["finished"], told["run_seconds"]) == (2, 5.0)

    def test_old_ones_are_forgotten(self, db):
        Tally.objects.create(minute=soon(days=-2), queue_name="default", processor_class="Old")
        Tally.objects.create(minute=soon(hours=-2), queue_name="default", processor_class="Young")

        with connection.cursor() as cursor:
            cursor.execute(*store.forget_tallies(timedelta(days=1)))

        assert Tally.objects.get().processor_class == "Young"

    def test_an_idle_supervisor_writes_none(self):
        with live_supervisor(WORKERS_COUNT=1):
            pass

        assert not Tally.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_the_row_of_a_supervisor_tells_what_its_workers_run():
    with live_supervisor(WORKERS_COUNT=2, beat_seconds=0.2):
        task = Sleep(60, "long").delay()
        asynchronous = [AsyncSleep(60, number).delay() for number in range(2)]
        wait_until(lambda: len(marks()) == 3)

        def told():
            workers = Supervisor.objects.get().workers
            return {each["id"]: each for worker in workers for each in worker["tasks"]}

        wait_until(lambda: len(told()) == 3)
        row = told()
        assert set(row) == {task.pk, *(each.pk for each in asynchronous)}
        assert row[task.pk]["processor"] == "Sleep"
        assert 0 <= row[task.pk]["seconds"] < 60
        assert len({worker["pid"] for worker in Supervisor.objects.get().workers}) == 2
        for each in [task, *asynchronous]:
            partisan("cancel", each.pk)
