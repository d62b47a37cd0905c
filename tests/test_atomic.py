"""``ATOMIC``: a run's writes and its row's end are there together, or not at all."""

import logging

import pytest
from django.db import connection

from partisan_async.models import Task
from partisan_async.policy import Finished
from partisan_async.testing import live_supervisor, run_pending
from tests.conftest import ended, marks, wait_until
from tests.testapp.partisan_tasks import (
    AsyncAdd,
    AtomicFail,
    AtomicFailOnCommit,
    AtomicFork,
    AtomicLostClaim,
    AtomicPostpone,
    AtomicRetry,
    AtomicRollback,
    AtomicViolate,
    AtomicWrite,
    MisconfiguredAtomic,
)


@pytest.mark.django_db
class TestInTheKit:
    def test_it_finishes_with_its_writes(self):
        AtomicWrite("kept").delay()

        (ran,) = run_pending()

        assert (ran.task.status, ran.task.result, ran.task.tries) == ("finished", "written", 1)
        assert marks() == ["kept"]

    def test_what_a_failed_run_wrote_is_gone(self):
        AtomicFail("why").delay()

        (ran,) = run_pending(errors="keep")

        assert ran.task.status == "error"
        assert ran.task.errors[0]["message"] == "why"
        assert marks() == []

    def test_a_postpone_starts_from_a_clean_slate(self):
        AtomicPostpone().delay()

        assert [ran.task.status for ran in run_pending()] == ["new", "finished"]
        assert Task.objects.get().postpones == 1
        assert marks() == ["after 1"]

    def test_what_its_on_commit_raises_comes_too_late_for_its_end(self, caplog):
        """The row is committed: it is not run again, and not said to have failed."""
        AtomicFailOnCommit().delay()

        (ran,) = run_pending()

        assert (ran.task.status, ran.decision) == ("finished", Finished())
        assert marks() == ["committed"]
        assert f"failed after its end {ran.task.pk} AtomicFailOnCommit" in caplog.text
        assert "LookupError: on_commit" in caplog.text

    def test_an_async_one_is_refused(self, monkeypatch):
        monkeypatch.setattr(AsyncAdd, "ATOMIC", True)
        AsyncAdd().delay()

        (ran,) = run_pending(errors="keep")

        assert "ATOMIC needs a plain" in ran.task.errors[0]["message"]
        assert marks() == []


@pytest.mark.django_db(transaction=True)
class TestInAWorker:
    def test_it_finishes_with_its_writes(self):
        with live_supervisor(WORKERS_COUNT=1):
            task = AtomicWrite("kept").delay().wait(timeout_seconds=60)

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

    def test_what_is_refused_at_the_commit_ends_in_error(self):
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE deferred (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        try:
            with live_supervisor(WORKERS_COUNT=1):
                task = AtomicViolate().delay().wait(timeout_seconds=60)
        finally:
            with connection.cursor() as cursor:
                cursor.execute("DROP TABLE deferred")

        assert task.status == "error"
        assert task.errors[0]["exception_class"] == "django.db.utils.IntegrityError"
        assert marks() == []

    def test_a_rollback_that_it_asked_for_is_an_error(self):
        """The row's end would be rolled back with it, and the task would run for ever."""
        with live_supervisor(WORKERS_COUNT=1):
            task = AtomicRollback().delay().wait(timeout_seconds=60)

        assert task.errors[0]["exception_class"].endswith("TransactionManagementError")
        assert marks() == []

    def test_the_child_of_a_fork_settles_nothing(self):
        """It shares the connection, and with that the transaction."""
        with live_supervisor(WORKERS_COUNT=1):
            task = AtomicFork().delay()
            wait_until(ended)

        task.refresh_from_db()
        assert task.errors[0]["exception_class"] == "builtins.LookupError"
        assert marks() == []

    def test_what_its_on_commit_raises_comes_too_late_for_its_end(self, caplog):
        caplog.set_level(logging.INFO, "partisan_async")
        with live_supervisor(WORKERS_COUNT=1):
            task = AtomicFailOnCommit().delay().wait(timeout_seconds=60)
            wait_until(lambda: f"done {task.pk} AtomicFailOnCommit" in caplog.text)

        assert (task.status, task.errors) == ("finished", [])
        assert marks() == ["committed"]

    def test_a_run_that_lost_its_claim_writes_nothing(self, caplog):
        AtomicLostClaim().delay()

        with live_supervisor(WORKERS_COUNT=1):
            wait_until(lambda: "fenced" in caplog.text)

        assert Task.objects.get().status == "in_process"
        assert marks() == []

    def test_rules_that_cannot_be_read_do_not_make_an_error_of_it(self):
        """Its work is committed with its end: a retry would do it again."""
        with live_supervisor():
            task = MisconfiguredAtomic("once").delay()
            wait_until(lambda: ended(task))

        task.refresh_from_db()
        assert (task.status, marks()) == ("finished", ["once"])

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
