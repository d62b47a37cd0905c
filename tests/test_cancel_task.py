"""A task that ends itself by ``CancelTask``: in error, told as cancelled, and not as failed."""

import logging

import pytest
from django.db import connection
from django.urls import reverse

from partisan_async import signals, steering
from partisan_async.claim import Attempt, Settlement
from partisan_async.exceptions import CancelTask, TaskCancelled
from partisan_async.models import Tally, Task
from partisan_async.operate import last_hour, overview, reasons
from partisan_async.policy import Cancelled, Failure, Finished, class_path
from partisan_async.supervisor.report.counts import Counts
from partisan_async.supervisor.storable import reduced
from partisan_async.testing import live_supervisor, perform, run_pending
from tests.claims import claim
from tests.conformance.api import TaskResultStatus, task_finished
from tests.conftest import ended, marks, wait_until
from tests.testapp import tasks
from tests.testapp.partisan_tasks import (
    AsyncCancelItself,
    AtomicCancelItself,
    AtomicCancelOnCommit,
    CancelItself,
    Fail,
    Reveal,
    Write,
)

CANCELLED = class_path(TaskCancelled())


@pytest.fixture
def heard():
    """What receivers hear of ends, in this process."""
    news = []

    def listener(name):
        def hear(sender, task, signal, **more):
            news.append((name, sender, task.pk, more))

        return hear

    listeners = {name: listener(name) for name in ("finished", "failed", "cancelled", "retried")}
    for name, hear in listeners.items():
        getattr(signals, f"task_{name}").connect(hear)
    yield news
    for name, hear in listeners.items():
        getattr(signals, f"task_{name}").disconnect(hear)


def is_cancelled(task, reason="the order is void"):
    """Whether the row tells that, and nothing else."""
    task.refresh_from_db()
    (error,) = task.errors
    told = f"Cancelled by itself: {reason}" if reason else "Cancelled by itself."
    assert (error["exception_class"], error["message"]) == (CANCELLED, told)
    assert (error["cancelled"], error["by"], error["reason"]) == (True, "itself", reason)
    assert "in cancel\n" in error["traceback"]
    assert (task.status, task.tries, task.result) == ("error", 1, None)
    return True


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("processor", "written"),
    [(CancelItself, ["begun"]), (AsyncCancelItself, []), (AtomicCancelItself, [])],
)
def test_it_ends_now(processor, written, caplog):
    """Though its processor tries again on any Exception; who waits for its end is woken."""
    with caplog.at_level(logging.INFO), live_supervisor(WORKERS_COUNT=1) as supervisor:
        task = processor("the order is void").delay()
        task.wait(timeout_seconds=60)
        wait_until(lambda: supervisor.parts.counts.take() or Tally.objects.exists())

    assert is_cancelled(task)
    assert marks() == written
    (line,) = (each for each in caplog.records if each.event == "cancelled")
    assert line.getMessage() == (
        f"cancelled {task.pk} {processor.__name__} by itself: the order is void"
    )
    assert not [each for each in caplog.records if each.levelno > logging.INFO]


@pytest.mark.django_db(transaction=True)
def test_what_is_committed_has_finished():
    """It asks for its end when that is there already, together with its work."""
    with live_supervisor(WORKERS_COUNT=1):
        task = AtomicCancelOnCommit("too late").delay()
        wait_until(ended)

    task.refresh_from_db()
    assert (task.status, task.errors, marks()) == ("finished", [], ["committed"])


@pytest.mark.django_db
class TestHere:
    @pytest.mark.parametrize("processor", [CancelItself, AsyncCancelItself, AtomicCancelItself])
    def test_run_pending_takes_it_for_no_failure(self, processor):
        task = processor("the order is void").delay()

        (ran,) = run_pending()

        assert isinstance(ran.decision, Cancelled)
        assert is_cancelled(task)

    def test_it_is_no_failure_to_receivers(self, heard):
        task = CancelItself("void").delay()
        run_pending()

        assert heard == [("cancelled", CancelItself, task.pk, {"by": "itself", "reason": "void"})]

    def test_a_receiver_of_it_alone_costs_other_runs_nothing(self, monkeypatch):
        """To make the row of a run takes as long as the rest of a small task."""
        news = []

        def hear(task, **more):
            news.append(task.pk)

        signals.task_cancelled.connect(hear)
        try:
            monkeypatch.setattr("partisan_async.worker.loading.row_of", refuse)
            assert isinstance(perform(Write).decision, Finished)
            monkeypatch.undo()
            perform(CancelItself)
        finally:
            signals.task_cancelled.disconnect(hear)

        assert len(news) == 1

    @pytest.mark.parametrize(
        ("arguments", "kept"),
        [([], ""), ([""], ""), (["odd"], "a\ufffdb\ufffdc"), (["careless"], "")],
    )
    def test_a_reason_may_be_any_text(self, arguments, kept):
        task = CancelItself(*arguments).delay()
        run_pending()

        assert is_cancelled(task, kept)

    def test_a_secret_in_it_is_masked(self):
        task = Reveal(how="cancel", password="hunter2hunter2").delay()
        run_pending()

        task.refresh_from_db()
        assert task.errors[0]["reason"] == "****** is wrong"
        assert "hunter2" not in str(task.errors)

    @pytest.mark.parametrize("reason", [5, b"void", ["void"]])
    def test_a_reason_that_is_no_text_is_refused(self, reason):
        with pytest.raises(
            TypeError, match=r"CancelTask\(reason=.*\): a reason is a text, or None"
        ):
            CancelTask(reason)

    def test_an_operator_can_run_it_again(self):
        task = CancelItself("void").delay()
        run_pending()

        assert steering.retry([task.pk]) == [task.pk]

    def test_an_operators_cancel_is_marked_alike(self):
        """One condition finds both."""
        itself, by_hand, failed = (
            CancelItself().delay(),
            Write().delay(),
            Fail("ValueError").delay(),
        )
        steering.cancel([by_hand.pk], by="ada")
        run_pending(errors="keep")

        found = Task.objects.filter(status="error", errors__contains=[{"cancelled": True}])
        assert set(found) == {itself, by_hand}
        assert failed.pk

    def test_those_that_failed_last_are_told_without_it(self):
        """Else a processor that cancels itself a lot would hide them."""
        failed = Fail("ValueError").delay()
        run_pending(errors="keep")
        CancelItself.bulk_delay([CancelItself(str(number)) for number in range(20)])
        run_pending()
        by_hand = Write().delay()
        steering.cancel([by_hand.pk])

        assert [each.id for each in overview.failed_lately()] == [by_hand.pk, failed.pk]

    def test_why_says_it(self):
        task = CancelItself("the order is void").delay()
        run_pending()
        task.refresh_from_db()

        said = " ".join(reasons.why(task))
        assert "partisan_async.exceptions.TaskCancelled: Cancelled by itself: the order is" in said


def refuse(*args):
    raise AssertionError("a row was made")


@pytest.mark.django_db
def test_one_of_djangos_own_tasks_has_failed_to_its_api(caplog):
    """That has no other state for one that did not succeed."""
    told = []

    def hear(task_result, **more):
        told.append(task_result.status)

    task_finished.connect(hear)
    try:
        result = tasks.cancel.enqueue()
        run_pending()
    finally:
        task_finished.disconnect(hear)

    result.refresh()
    (error,) = result.errors
    assert told == [TaskResultStatus.FAILED] == [result.status]
    assert (error.exception_class, "nobody needs it" in error.traceback) == (TaskCancelled, True)


class TestCounted:
    def test_it_is_no_failure_in_any_figure(self):
        counted = Counts(with_spreads=True)
        cancelled = Cancelled(Failure(CANCELLED, "Cancelled by itself."), "")

        counted.count(claim(), cancelled, Attempt(2.0, "host/1"))

        (row,) = counted.take()
        assert row == ("Nothing", 0, 0, 0, 0, 0, 1, 2.0, 0.0, 2.0, 0.0)
        ((_, figures),) = counted.figures()
        assert figures.outcomes[Cancelled] == 1
        assert sum(figures.outcomes.values()) == 1

    @pytest.mark.django_db
    def test_the_last_hour_has_it_as_a_run(self, admin_client):
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO partisan_async_tally (minute, queue_name, processor_class, cancelled,"
                " run_seconds) VALUES (date_trunc('minute', now()), 'default', 'Cancel', 2, 3)"
            )

        (state,) = last_hour.last_hour().processors

        counts = state.counts
        assert (counts.runs, counts.cancelled, counts.failed, counts.mean_run) == (2, 2, 0, 1.5)
        assert last_hour.last_hour().failing == []
        (queue,) = overview.queues()
        assert (queue.finished, queue.failed) == (0, 0)
        assert queue.per_minute > 0
        page = admin_client.get(reverse("admin:partisan_async_dashboard_live")).content.decode()
        assert "0 postponed, 2 cancelled themselves" in page


def test_it_can_be_stored_in_any_encoding():
    """A reason that the database cannot hold must not keep the task from ending."""
    failure = Failure(CANCELLED, "Cancelled by itself: 日", "日")
    settlement = Settlement(claim(), Cancelled(failure, "日"), Attempt(1.0, "host/1"))

    first, bare, *_ = reduced(settlement, "LATIN1")

    assert first.decision == Cancelled(Failure(CANCELLED, "Cancelled by itself: ?", "?"), "?")
    assert (bare.decision.reason, bare.decision.failure.exception_class) == ("", CANCELLED)
