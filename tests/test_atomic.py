"""``ATOMIC``: a run's writes and its row's end are there together, or not at all."""

import pytest

from partisan_async.models import Task
from partisan_async.testing import live_supervisor, run_pending
from tests.conftest import ended, marks, wait_until
from tests.testapp.partisan_tasks import AtomicFail, AtomicLostClaim, AtomicRetry, AtomicWrite


@pytest.mark.django_db
class TestInTheKit:
    def test_it_finishes_with_its_writes(self):
        AtomicWrite("kept").delay()

        (ran,) = run_pending()

        assert (ran.task.status, ran.task.result, ran.task.tries) == ("finished", "written", 1)
        assert marks() == ["kept"]

    def test_what_a_failed_run_wrote_is_gone(self):
        AtomicFail("why").delay()

        (ran,) = run_pending()

        assert ran.task.status == "error"
        assert ran.task.errors[0]["message"] == "why"
        assert marks() == []


@pytest.mark.django_db(transaction=True)
class TestInAWorker:
    def test_it_finishes_with_its_writes(self):
        with live_supervisor(WORKERS_COUNT=1):
            task = AtomicWrite("kept").delay().wait(timeout_seconds=20)

        assert (task.status, task.result, task.tries) == ("finished", "written", 1)
        assert task.worker_ids
        assert task.finished_at
        assert task.claimed_by is None
        assert marks() == ["kept"]

    def test_a_try_that_failed_leaves_nothing(self):
        task = AtomicRetry().delay()

        with live_supervisor(WORKERS_COUNT=1):
            wait_until(ended)

        task.refresh_from_db()
        assert (task.status, task.tries, len(task.errors)) == ("finished", 3, 2)
        assert marks() == ["try 2"]

    def test_a_run_that_lost_its_claim_writes_nothing(self, caplog):
        AtomicLostClaim().delay()

        with live_supervisor(WORKERS_COUNT=1):
            wait_until(lambda: "fenced" in caplog.text)

        assert Task.objects.get().status == "in_process"
        assert marks() == []

    def test_a_finished_row_is_deleted_where_that_is_wished(self):
        AtomicRetry().delay()

        with live_supervisor(WORKERS_COUNT=1, DELETE_TASKS_ON_COMPLETE=True):
            wait_until(lambda: not Task.objects.exists())

        assert marks() == ["try 2"]

    def test_a_thousand_of_them(self):
        AtomicWrite.bulk_delay([AtomicWrite("kept") for _ in range(1000)])

        with live_supervisor(WORKERS_COUNT=2):
            wait_until(ended, seconds=60)

        assert marks() == ["kept"] * 1000
        assert Task.objects.filter(status="finished", tries=1).count() == 1000
