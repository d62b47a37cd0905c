"""``--once``: what there is is run, and what that enqueues; then the supervisor ends."""

import io
import signal
from datetime import timedelta

import psycopg
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from partisan_async import schedules, steering
from partisan_async.models import Schedule, Supervisor, Task
from partisan_async.schedule import Every
from tests.conftest import marks, wait_until
from tests.process import Partisan, environment, partisan
from tests.testapp.partisan_tasks import (
    DoNext,
    Enqueue,
    Fail,
    Postpone,
    Retry,
    Sleep,
    Write,
)

pytestmark = pytest.mark.django_db(transaction=True)


def supervised(*options, **env):
    """Run it to its end; return its exit code and what it said."""
    running = Partisan("--workers_count", "2", "--once", *options, **env)
    try:
        code = running.wait()
        running.wait_until_nothing_is_left()
        return code, running.output
    finally:
        running.end()


@pytest.mark.parametrize("listens", [["--async"], []])
def test_what_is_due_is_run_and_what_that_enqueues(listens):
    Enqueue("a", "b").delay()
    Task.objects.filter(pk=Write("scheduled").delay().pk).update(
        status=Task.STATUS_SCHEDULED, execute_after=timezone.now() - timedelta(hours=1)
    )
    later = Write("later").delay()
    Task.objects.filter(pk=later.pk).update(
        status=Task.STATUS_SCHEDULED, execute_after=timezone.now() + timedelta(hours=1)
    )

    code, said = supervised(*listens)

    assert code == 0, said
    assert sorted(marks()) == ["a", "b", "scheduled"]
    assert "once: queue 'default', 4 runs: 4 finished" in said
    later.refresh_from_db()
    assert later.status == Task.STATUS_SCHEDULED
    assert not Supervisor.objects.exists()


@pytest.mark.parametrize("closed", ["<&- >&-", "2>&-", "<&- >&- 2>&-"])
def test_it_runs_where_streams_are_closed(closed):
    """Else a socket gets the number of one, and libuv ends the process when that is closed."""
    Write("a").delay()

    code, said = supervised(launcher=("bash", "-c", f'exec "$@" {closed}', "bash"))

    assert code == 0, said
    assert marks() == ["a"]
    assert "cold" not in said
    assert "Traceback" not in said


def test_without_anything_it_ends_at_once():
    code, said = supervised()

    assert code == 0, said
    assert "once: queue 'default', 0 runs" in said


def test_one_that_failed_is_told_by_the_exit_code():
    Fail("ValueError").delay()
    Write("good").delay()

    code, said = supervised()

    assert code == 1
    assert marks() == ["good"]
    assert "2 runs: 1 failed, 1 finished" in said
    assert "CommandError: 1 task(s) failed; `manage.py partisan status` shows more." in said


def test_retries_and_postpones_are_left_or_waited_for():
    put_off = Postpone("a", 1, 600).delay()

    code, said = supervised()

    assert code == 0, said
    assert "1 run: 1 postponed" in said
    more = [Retry("c", 2).delay(), Postpone("d", 2, 0.3).delay(), DoNext("nobody").delay()]

    code, said = supervised("--retries")

    # It waits for its own alone.
    assert code == 0, said
    for task in (*more, put_off):
        task.refresh_from_db()
    assert {task.status for task in more} == {Task.STATUS_FINISHED}
    assert put_off.status == Task.STATUS_SCHEDULED


def test_one_that_is_left_to_a_pause_is_not_waited_for():
    """It was tried once, and then its processor was paused."""
    put_off = Postpone("a", 1, 600).delay()
    with partisan("--once", "--retries", words="postponed") as running:
        steering.pause(processor="Postpone")
        code = running.wait()

    assert code == 0, running.output if code else ""
    put_off.refresh_from_db()
    assert put_off.status == Task.STATUS_SCHEDULED


def test_ticks_that_are_due_belong_to_what_there_is():
    schedules.create("acme", Write("ticked"), Every(seconds=3600))
    past = timezone.now() - timedelta(minutes=5)
    Schedule.objects.filter(pk=":acme").update(next_tick=past)

    code, said = supervised()

    assert code == 0, said
    assert marks() == ["ticked"]


def test_tasks_of_a_supervisor_that_was_killed_are_what_there_is():
    with partisan("--async", "--workers_count", "1") as killed:
        task = Sleep(0.5, "long").delay()
        wait_until(lambda: "start long" in marks())
        killed.signal(signal.SIGKILL)
        killed.wait()
        code, said = supervised()

    assert code == 0, said
    task.refresh_from_db()
    assert task.status == Task.STATUS_FINISHED


def test_a_queue_that_is_paused_is_said():
    steering.pause("default")
    Write("waits").delay()

    code, said = supervised()

    assert code == 1
    assert "CommandError: Queue 'default' is paused, so nothing of it runs;" in said
    assert marks() == []


def test_rows_that_somebody_has_locked_are_waited_for():
    task = Write("locked").delay()
    with psycopg.connect(environment()["DATABASE_URL"]) as other:
        other.execute("SELECT 1 FROM partisan_async_task WHERE id = %s FOR UPDATE", [task.pk])
        with partisan("--once") as running:
            Write("free").delay()
            wait_until(lambda: "free" in marks())
            other.rollback()
            code, said = running.wait(), running.output

    assert code == 0, said
    assert sorted(marks()) == ["free", "locked"]


def test_rows_that_stay_locked_are_left_and_told():
    task = Write("locked").delay()
    with psycopg.connect(environment()["DATABASE_URL"]) as other:
        other.execute("SELECT 1 FROM partisan_async_task WHERE id = %s FOR UPDATE", [task.pk])
        code, said = supervised()

    assert code == 1
    assert "1 task(s) are ready, and other transactions have held their rows for 10 s." in said
    task.refresh_from_db()
    assert task.status == Task.STATUS_NEW


def test_stopped_before_its_end_it_says_so():
    task = Sleep(600, "long").delay()
    with partisan("--once", "--workers_count", "1") as running:
        wait_until(lambda: "start long" in marks())
        running.signal(signal.SIGTERM)
        running.signal(signal.SIGTERM)
        code, said = running.wait(), running.output

    assert code == 1
    assert "CommandError: It was stopped before all had run." in said
    task.refresh_from_db()
    assert task.status == Task.STATUS_NEW


def test_it_lives_through_a_restart_of_its_connections():
    for number in range(50):
        Sleep(0.02, str(number)).delay()
    with partisan("--once", "--workers_count", "1") as running:
        wait_until(lambda: "end 3" in marks())
        with psycopg.connect(environment()["DATABASE_URL"], autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name LIKE 'partisan%' AND datname = current_database()"
            )
        code, said = running.wait(), running.output

    assert code == 0, said
    assert Task.objects.filter(status=Task.STATUS_FINISHED).count() == 50


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"retries": True}, "--retries says what --once waits for: add --once."),
        ({"once": True, "paused": True}, "leave one of them out"),
    ],
)
def test_options_that_contradict_each_other(options, said):
    with pytest.raises(CommandError, match=said):
        call_command("start_partisan", **options, stdout=io.StringIO())
