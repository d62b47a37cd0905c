"""Workers that come when tasks wait for them, and go when they have nothing to do."""

import io
import os
import signal

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import override_settings

from partisan_async.settings import on_a_shared_host, queue_settings
from partisan_async.supervisor.workers import forkserver, room, slots
from partisan_async.testing import live_supervisor
from tests.conftest import ended, marks, wait_until
from tests.home import Site
from tests.process import partisan
from tests.testapp.models import Mark
from tests.testapp.partisan_tasks import AsyncSleep, Die, Nothing, Sleep, Wait, Write

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def hasty(monkeypatch):
    """Workers go soon."""
    monkeypatch.setattr(slots, "IDLE_SECONDS", 0.3)


def number_of(supervisor):
    processes = supervisor.parts.dispatcher.pool.slots.processes()
    return sum(process.pid is not None for process in processes)


class TestPool:
    def test_an_idle_queue_has_none_and_the_first_task_gets_one(self, hasty):
        with live_supervisor(WORKERS_COUNT=(0, 2), beat_seconds=0.1) as supervisor:
            assert number_of(supervisor) == 0
            assert not supervisor.parts.status.hindrance()
            for _ in range(2):
                task = Nothing().delay()
                wait_until(lambda task=task: ended(task))
                wait_until(lambda: number_of(supervisor) == 0)

    def test_it_grows_to_the_most_while_tasks_wait_and_no_further(self, tmp_path):
        path = tmp_path / "go on"
        with live_supervisor(WORKERS_COUNT=(0, 3)) as supervisor:
            tasks = [Wait(str(path), number).delay() for number in range(5)]
            wait_until(lambda: marks() == ["waits"] * 3)
            assert number_of(supervisor) == 3
            path.touch()
            wait_until(lambda: ended(*tasks))
            assert number_of(supervisor) == 3

    def test_one_that_does_not_wait_starts_none_more(self):
        with live_supervisor(WORKERS_COUNT=(1, 3)) as supervisor:
            for _ in range(5):
                task = Nothing().delay()
                wait_until(lambda task=task: ended(task))
            assert number_of(supervisor) == 1

    def test_async_tasks_share_one_until_it_is_full(self, monkeypatch):
        # An event loop that is late counts as blocked: on a busy machine others would help.
        monkeypatch.setattr(room, "OVERDUE_SECONDS", 60)
        with live_supervisor(WORKERS_COUNT=(0, 3), ASYNC_CONCURRENCY=5) as supervisor:
            AsyncSleep(3, "first").delay()
            wait_until(lambda: "start first" in marks())
            more = [AsyncSleep(0.1, str(number)).delay() for number in range(3)]
            wait_until(lambda: ended(*more))
            assert number_of(supervisor) == 1

    def test_it_shrinks_to_the_fewest_and_to_no_fewer(self, hasty):
        with live_supervisor(WORKERS_COUNT=(1, 3), beat_seconds=0.1) as supervisor:
            tasks = [Sleep(0.5, str(number)).delay() for number in range(3)]
            wait_until(lambda: ended(*tasks))
            wait_until(lambda: number_of(supervisor) == 1)
            beat = supervisor.parts.lease._sent
            wait_until(lambda: supervisor.parts.lease._sent > beat + 1)
            assert number_of(supervisor) == 1

    def test_one_with_a_task_stays(self, hasty):
        with live_supervisor(WORKERS_COUNT=(0, 2), beat_seconds=0.1):
            task = Sleep(2, "long").delay()
            wait_until(lambda: ended(task))
        assert marks() == ["start long", "end long"]

    def test_one_that_is_killed_is_replaced_and_its_task_runs_again(self):
        with live_supervisor(WORKERS_COUNT=(0, 2)) as supervisor:
            task = Sleep(1, "struck").delay()
            wait_until(lambda: "start struck" in marks())
            os.kill(Mark.objects.get().pid, signal.SIGKILL)
            wait_until(lambda: ended(task))
            task.refresh_from_db()
            assert task.status == "finished"
            assert number_of(supervisor) <= 3  # with a spare one for what was lost

    def test_tasks_that_kill_theirs_do_not_keep_others_from_one(self):
        with live_supervisor(WORKERS_COUNT=(0, 2)):
            bad, good = Die("SIGKILL").delay(), Write("good").delay()
            wait_until(lambda: ended(bad, good))
        assert marks().count("good") == 1

    def test_a_fixed_number_neither_grows_nor_shrinks(self, hasty):
        with live_supervisor(WORKERS_COUNT=2, beat_seconds=0.1) as supervisor:
            tasks = [Sleep(0.5, str(number)).delay() for number in range(4)]
            wait_until(lambda: ended(*tasks))
            beat = supervisor.parts.lease._sent
            wait_until(lambda: supervisor.parts.lease._sent > beat + 1)
            assert number_of(supervisor) == 2

    def test_it_is_stopped_in_the_middle_of_its_growth(self):
        with partisan("--async", "--workers_count", "0-4") as running:
            tasks = [Sleep(600, str(number)).delay() for number in range(4)]
            wait_until(lambda: any(text.startswith("start") for text in marks()))
            running.signal(signal.SIGTERM)
            running.signal(signal.SIGTERM)
            assert running.wait() == 0, running.output
            running.wait_until_nothing_is_left()
        for task in tasks:
            task.refresh_from_db()
            assert (task.status, task.tries) == ("new", 0)


class TestSettings:
    @pytest.mark.parametrize("count", [(0, 4), [1, 1], (2, 2), 3])
    def test_what_can_be(self, count):
        with override_settings(WORKERS_COUNT=count):
            found = queue_settings()
        least, most = (count, count) if isinstance(count, int) else count
        assert (found.least_workers, found.most_workers) == (least, most)

    @pytest.mark.parametrize(
        "count", [0, (4, 0), (0, 0), (-1, 2), (1, 2, 3), ("0", 4), "0-4", True]
    )
    def test_what_cannot(self, count):
        told = pytest.raises(ImproperlyConfigured, match="or the fewest and the most of them")
        with override_settings(WORKERS_COUNT=count), told:
            queue_settings()

    @pytest.mark.parametrize("text", ["4-0", "0", "x", "1-", "-2", "1-2-3"])
    def test_what_the_option_refuses(self, text):
        with pytest.raises(CommandError, match=r"such as 0-4$|expected one argument"):
            call_command("start_partisan", f"--workers_count={text}", stdout=io.StringIO())

    def test_beside_other_queues_one_without_the_setting_rests(self):
        with override_settings(PARTISAN_CONFIG={"a": {"WORKERS_COUNT": 3}}):
            del settings.WORKERS_COUNT  # the tests' own, for all queues
            found = {name: on_a_shared_host(name, queue_settings(name)) for name in "ab"}
        assert [each.WORKERS_COUNT for each in found.values()] == [3, (0, os.cpu_count())]

    def test_that_of_the_default_queue_counts_for_the_others(self):
        with override_settings(PARTISAN_CONFIG={"default": {"WORKERS_COUNT": 3}}):
            assert on_a_shared_host("b", queue_settings("b")).WORKERS_COUNT == 3


def test_a_stop_does_not_wait_for_a_server_that_imports_for_ever(tmp_path):
    """It is warmed up for the first worker; the stop lets it go on for two seconds."""
    site = Site(tmp_path)
    site.write(
        "home/partisan_tasks.py",
        'import sys, time\nif "birth" in " ".join(sys.orig_argv):\n'
        '    open("imports", "w").close()\n    time.sleep(3600)\n',
    )
    with site.start("--workers_count", "0-1", wait=False) as running:
        wait_until((tmp_path / "imports").exists)

        running.signal(signal.SIGTERM)

        # A server that nobody ends has a minute to import the project.
        assert running.wait(forkserver.START_SECONDS - 15) == 0, running.output
        running.wait_until_nothing_is_left()


def test_a_server_whose_supervisor_is_killed_while_it_imports_ends_in_silence(tmp_path):
    """There is nobody to whom it could tell that it is ready."""
    site = Site(tmp_path)
    site.write(
        "home/partisan_tasks.py",
        'import os, sys, time\nif "birth" in " ".join(sys.orig_argv):\n'
        '    open("imports", "w").close()\n'
        '    while not os.path.exists("go"):\n        time.sleep(0.01)\n',
    )
    with site.start("--workers_count", "0-1", wait=False) as running:
        wait_until((tmp_path / "imports").exists)
        running.signal(signal.SIGKILL)
        running.wait()

        (tmp_path / "go").touch()

        running.wait_until_nothing_is_left()
        assert "Traceback" not in running.output
