"""This project's own backend, put to the suite."""

import sys

from django.test import TransactionTestCase, override_settings
from django.utils import timezone

from partisan_async.django_tasks.processors import processor_of
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.models import Task
from partisan_async.testing import run_pending
from tests.conformance import tasks
from tests.conformance.api import LOGGER as API
from tests.conformance.api import (
    InvalidTask,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_backends,
)
from tests.conformance.suite import TaskBackendConformance
from tests.testapp.partisan_tasks import Write


class PartisanBackendTests(TaskBackendConformance, TransactionTestCase):
    backend = "partisan_async.tasks_backend.PartisanBackend"

    def run_enqueued(self):
        run_pending(errors="keep")

    def test_every_priority_keeps_its_rank_and_0_is_a_processors_default(self):
        for priority in range(-100, 101):
            tasks.note.using(priority=priority).enqueue(priority)
        own = Write().delay()

        ranks = list(Task.objects.exclude(pk=own.pk).order_by("priority", "id"))
        assert [task.args[0] for task in ranks] == list(range(100, -101, -1))
        assert own.priority == Task.objects.get(arguments__args=[0]).priority
        for task in ranks:
            result = task_backends["default"].get_result(str(task.pk))
            assert result.task.priority == task.args[0]

    def test_a_processors_row_is_no_result_of_djangos(self):
        task = Write().delay()

        with self.assertRaises(TaskResultDoesNotExist):
            task_backends["default"].get_result(str(task.pk))

    def test_a_function_that_no_worker_could_find_is_refused(self):
        with self.assertRaisesMessage(InvalidTask, "No worker could find"):
            tasks.renamed_task.enqueue()

    def test_a_row_may_not_name_what_is_no_task(self):
        result = tasks.note.enqueue()
        Task.objects.update(processor_class="os.getcwd", unrecognised=100)

        (ran,) = run_pending(errors="keep")

        assert ran.task.pk == int(result.id)
        assert ran.task.errors[0]["exception_class"].endswith("ProcessorClassNotFound")

    def test_no_row_has_a_module_imported(self):
        result = tasks.note.enqueue()
        Task.objects.update(processor_class="tests.conformance.unused.evil", unrecognised=100)

        (ran,) = run_pending(errors="keep")

        assert ran.task.errors[0]["exception_class"].endswith("ProcessorClassNotFound")
        with self.assertRaises(ProcessorClassNotFound):
            task_backends["default"].get_result(result.id)
        assert "tests.conformance.unused" not in sys.modules

    @override_settings(TASKS={"default": {"BACKEND": f"{API}.backends.dummy.DummyBackend"}})
    def test_without_the_backend_no_row_has_a_task_run(self):
        Write().delay()
        Task.objects.update(processor_class="tests.conformance.tasks.note", unrecognised=100)
        processor_of.cache_clear()

        (ran,) = run_pending(errors="keep")

        assert ran.task.status == "error"

    def test_waiting_for_another_try_reads_as_ready(self):
        result = tasks.note.enqueue()
        Task.objects.update(
            status="scheduled", tries=1, worker_ids=["one"], execute_after=timezone.now()
        )

        result.refresh()

        assert (result.status, result.attempts) == (TaskResultStatus.READY, 1)

    def test_attempts_count_on_where_worker_ids_are_forgotten(self):
        result = tasks.note.enqueue()
        Task.objects.update(tries=12, worker_ids=["w"] * 10)

        result.refresh()

        assert result.attempts == 12

    def test_options_are_an_error_that_says_so(self):
        settings = {"BACKEND": self.backend, "OPTIONS": {"workers": 2}}
        with override_settings(TASKS={"default": settings}):
            (error,) = task_backends["default"].check()

        assert error.id == "partisan_async.E008"
        assert "'workers'" in error.msg
