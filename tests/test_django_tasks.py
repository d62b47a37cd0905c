"""Django's own tasks in real workers, and what this package says beside Django's API."""

import datetime
import os
import re
import subprocess
import sys

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from partisan_async.config.processor_configs import PostponeConfig
from partisan_async.models import Task
from partisan_async.tasks_backend import options
from partisan_async.testing import assert_enqueued, live_supervisor, perform, run_pending
from tests.conformance.api import (
    InvalidTask,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task,
    task_finished,
)
from tests.conftest import ended, marks, wait_until
from tests.process import ROOT, environment
from tests.testapp import tasks


@pytest.mark.django_db(transaction=True)
class TestInWorkers:
    @pytest.mark.parametrize("task", [tasks.write, tasks.awrite])
    def test_one_that_goes_well(self, task):
        with live_supervisor(WORKERS_COUNT=1):
            result = task.enqueue("here")
            wait_until(ended)

        result.refresh()
        assert result.status == TaskResultStatus.SUCCESSFUL
        assert result.return_value != os.getpid()
        assert result.worker_ids[0].endswith(f"/{result.return_value}")
        assert marks() == ["here"]

    def test_retries_count_attempts_and_keep_errors(self):
        with live_supervisor(WORKERS_COUNT=1):
            result = tasks.fail_twice.enqueue()
            wait_until(ended)

        result.refresh()
        assert (result.status, result.return_value) == (TaskResultStatus.SUCCESSFUL, 3)
        assert marks() == ["attempt 1", "attempt 2", "attempt 3"]
        assert [error.exception_class for error in result.errors] == [TimeoutError] * 2
        assert result.attempts == 3

    def test_a_killed_worker_ends_it_at_last_and_that_is_told(self):
        told = []

        def hear(sender, task_result, **kwargs):
            told.append((sender.__name__, task_result.id, task_result.status))

        task_finished.connect(hear)
        try:
            with live_supervisor(WORKERS_COUNT=1):
                result = tasks.kill_worker.enqueue()
                wait_until(ended)
                wait_until(lambda: told)
        finally:
            task_finished.disconnect(hear)

        result.refresh()
        assert told == [("PartisanBackend", result.id, TaskResultStatus.FAILED)]
        assert "SIGKILL" in result.errors[-1].traceback

    def test_another_process_reads_the_result(self):
        """Also one that has imported nothing of the tasks."""
        result = tasks.write.enqueue("here")
        run_pending()
        code = (
            "import django, sys; django.setup(); assert 'tests.testapp.tasks' not in sys.modules;"
            "from tests.conformance.api import task_backends;"
            f"result = task_backends['default'].get_result('{result.id}');"
            "print(result.task.module_path, result.status, result.return_value)"
        )

        command = [sys.executable, "-c", code]
        read = subprocess.run(command, env=environment(), cwd=ROOT, capture_output=True, text=True)

        assert read.stdout == f"tests.testapp.tasks.write SUCCESSFUL {os.getpid()}\n", read.stderr

    def test_its_row_can_be_waited_for(self):
        with live_supervisor(WORKERS_COUNT=1):
            result = tasks.write.enqueue("here")
            Task.objects.get(pk=result.id).wait(timeout_seconds=60)

        result.refresh()
        assert result.is_finished

    def test_its_time_limit_is_kept(self):
        with live_supervisor(WORKERS_COUNT=1):
            result = tasks.overrun.enqueue()
            wait_until(ended)

        result.refresh()
        assert result.errors[0].exception_class_path == "partisan_async.exceptions.TaskTimeout"

    def test_an_atomic_one_is_rolled_back_or_there(self):
        with live_supervisor(WORKERS_COUNT=1, DELETE_TASKS_ON_COMPLETE=True):
            tasks.write_and_fail.enqueue("gone")
            result = tasks.write_atomically.enqueue("there")
            wait_until(ended)

        result.refresh()
        assert result.return_value == "there"
        assert marks() == ["there"]

    def test_processors_and_tasks_share_a_queue(self):
        from tests.testapp.partisan_tasks import Write

        with live_supervisor(WORKERS_COUNT=2):
            for number in range(20):
                Write(f"processor {number}").delay()
                tasks.write.enqueue(f"task {number}")
                tasks.awrite.enqueue(f"async task {number}")
            wait_until(ended)

        assert len(marks()) == 60


@pytest.mark.django_db
class TestBesideTheApi:
    def test_postpones_end(self):
        result = tasks.postpone.enqueue()

        run_pending(errors="keep")

        result.refresh()
        assert (result.status, result.attempts) == (TaskResultStatus.FAILED, 2)
        assert "MaxPostponesReached" in result.errors[0].traceback

    def test_a_postponed_one_is_ready(self, monkeypatch):
        result = tasks.postpone.enqueue()
        Task.objects.update(status="scheduled", postpones=1, worker_ids=["w"])

        result.refresh()

        assert (result.status, result.attempts) == (TaskResultStatus.READY, 1)

    def test_the_kit_knows_them(self):
        tasks.write.enqueue("enqueued")

        task = assert_enqueued(tasks.write, args=["enqueued"])
        assert task.processor_class == "tests.testapp.tasks.write"
        assert perform(tasks.write, ["performed"]).task.result == os.getpid()
        assert marks() == ["performed"]

    def test_a_run_costs_no_query_but_its_own(self):
        tasks.write.enqueue("one")
        with CaptureQueriesContext(connection) as queries:
            run_pending()

        reads = [each for each in queries if 'FROM "partisan_async_task"' in each["sql"]]
        assert len(reads) == 4  # the kit's own: what there is, and looks for what is due

    def test_options_belong_below_the_decorator(self):
        with pytest.raises(TypeError, match="belongs below @task"):
            options(postpone=PostponeConfig(max_postpones=1))(tasks.write)

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            (
                {"retry_on_error": [OSError]},
                r"=\[.* must be of type ErrorsHandleConfig",
            ),
            ({"postpone": 3}, "postpone=3.* must be of type PostponeConfig"),
            ({"timeout_seconds": -1}, "timeout_seconds=-1.* must be"),
            ({"atomic": "yes"}, "atomic='yes'.* must be"),
        ],
    )
    def test_options_that_cannot_be_are_refused(self, wrong, words):
        with pytest.raises(TypeError, match=words):
            options(**wrong)

    def test_an_atomic_async_task_is_refused(self):
        async def write(): ...

        with pytest.raises(TypeError, match="needs a plain `def write"):
            options(atomic=True)(write)

    @pytest.mark.parametrize("name", ["q" * 256, "nul\0", "\udc80"])
    def test_a_queue_that_no_row_can_hold_is_refused(self, settings, name):
        backend = "partisan_async.tasks_backend.PartisanBackend"
        settings.TASKS = {"default": {"BACKEND": backend, "QUEUES": []}}

        with pytest.raises(InvalidTask, match="queue_name="):
            tasks.write.using(queue_name=name)

    def test_a_name_that_no_row_can_hold_is_refused(self):
        def function(): ...

        function.__module__ = "m" * 250
        function.__qualname__ = "function"
        with pytest.raises(InvalidTask, match="longer than 255 characters"):
            task(function)

    @pytest.mark.parametrize(
        ("moment", "words"),
        [
            (datetime.datetime(9999, 12, 31, tzinfo=datetime.UTC), "is out of reach"),
            (datetime.datetime(1, 1, 1, tzinfo=datetime.UTC), "is out of reach"),
        ],
    )
    def test_a_time_out_of_reach_is_refused(self, moment, words):
        with pytest.raises(InvalidTask, match=f"run_after=.* {words}"):
            tasks.write.using(run_after=moment).enqueue("x")

    def test_a_time_of_an_odd_zone_is_taken(self):
        """PostgreSQL takes no offset beyond 15:59."""
        zone = datetime.timezone(datetime.timedelta(hours=23))
        moment = datetime.datetime(2030, 1, 1, tzinfo=zone)

        result = tasks.write.using(run_after=moment).enqueue("x")

        assert Task.objects.get().execute_after == moment
        assert tasks.write.get_result(result.id).task.run_after == moment

    def test_arguments_that_are_nested_too_deeply_are_refused(self):
        deep = []
        for _ in range(sys.getrecursionlimit()):
            deep = [deep]

        with pytest.raises(ValueError, match="nested too deeply"):
            tasks.write.enqueue(deep)

    def test_a_traceback_shows_the_tasks_own_lines_alone(self):
        tasks.write_and_fail.enqueue("why")

        (ran,) = run_pending(errors="keep")

        files = re.findall('File "(.*)", line', ran.task.errors[0]["traceback"])
        assert files == [tasks.__file__]

    @pytest.mark.parametrize("arguments", [[], {"args": [], "kwargs": {}}])
    def test_a_row_that_was_written_by_hand_is_no_result(self, arguments):
        result = tasks.write.enqueue("x")
        Task.objects.update(arguments=arguments)

        with pytest.raises(TaskResultDoesNotExist):
            result.refresh()
        assert [ran.task.status for ran in run_pending(errors="keep")] == ["error"]

    def test_a_task_of_which_the_code_is_gone_waits_for_newer_code(self):
        result = tasks.write.enqueue("x")
        Task.objects.update(processor_class="tests.testapp.tasks.gone")

        (ran,) = run_pending()

        assert ran.task.status == "scheduled"
        assert ran.task.unrecognised == 1
        assert str(ran.task.pk) == result.id
