"""Why a task was put off, or ended by hand: kept, shown, logged, and told to receivers."""

import getpass
import io
import logging

import pytest
from django.core.management import call_command
from django.urls import reverse

from partisan_async import signals, steering
from partisan_async.exceptions import PostponeTask
from partisan_async.models import Task
from partisan_async.operate import reasons
from partisan_async.policy import Failure, Postponed
from partisan_async.testing import live_supervisor, run_pending
from tests.conftest import wait_until
from tests.testapp import tasks
from tests.testapp.partisan_tasks import PutOff, Write

LIST = reverse("admin:partisan_async_task_changelist")

pytestmark = pytest.mark.django_db


def run(task):
    Task.objects.filter(status="scheduled").update(status="new")
    (ran,) = run_pending()
    task.refresh_from_db()
    return ran


def told(task):
    return [(e["exception_class"].rpartition(".")[2], e["message"]) for e in task.errors]


class TestPostponed:
    @pytest.mark.parametrize(
        ("way", "kept"),
        [
            ("plain", []),
            ("reason", [("PostponeTask", "the bank is closed")]),
            ("cause", [("ConnectionError", "no answer")]),
            ("both", [("ConnectionError", "the bank is closed (no answer)")]),
            ("context", [("ConnectionError", "no answer")]),
            ("hidden", []),
            ("odd", [("PostponeTask", "a\ufffdb")]),
            ("blank", []),
        ],
    )
    def test_the_row_keeps_why(self, way, kept):
        """And where it came from, by the cause's traceback."""
        task = PutOff(way).delay()

        ran = run(task)

        assert told(task) == kept
        assert isinstance(ran.decision, Postponed)
        assert all(error["postponed"] is True for error in task.errors)
        if way in ("cause", "both", "context"):
            assert 'raise ConnectionError("no answer")' in task.errors[0]["traceback"]

    def test_the_last_one_is_kept(self):
        """A task that waits for days must not push out what went wrong before."""
        task = PutOff("error", "reason", "cause", "reason").delay()
        for _ in range(4):
            run(task)

        assert told(task) == [("TimeoutError", "late"), ("PostponeTask", "the bank is closed")]

    def test_a_row_that_was_changed_by_hand_is_settled(self):
        task = PutOff("reason").delay()
        Task.objects.update(errors={"postponed": 1})

        run(task)

        assert told(task) == [("PostponeTask", "the bank is closed")]

    def test_it_is_said(self):
        """Apart from what has failed."""
        task = PutOff("error", "both").delay()
        run(task)
        run(task)

        said = list(reasons.why(task))
        assert (
            "It has postponed itself 1 time, at last for: builtins.ConnectionError:"
            " the bank is closed (no answer)"
        ) in said
        (failed,) = (each for each in said if each.startswith("It has failed before, at last of "))
        assert "builtins.TimeoutError: late (at " in failed

    def test_a_reason_alone_is_said_without_a_class(self):
        task = PutOff("reason").delay()
        run(task)

        said = list(reasons.why(task))
        assert "It has postponed itself 1 time, at last for: the bank is closed" in said
        assert not any("failed" in sentence for sentence in said)

    def test_the_line_has_it(self, caplog):
        PutOff("both").delay()

        with caplog.at_level(logging.INFO, "partisan_async"):
            run_pending()

        (record,) = caplog.records
        assert record.getMessage().endswith(" by 600 s: the bank is closed (no answer)")
        assert record.exception == "builtins.ConnectionError"

    def test_receivers_are_told(self):
        heard = []

        def hear(failure, **kwargs):
            heard.append(failure and failure.message)

        signals.task_postponed.connect(hear)
        try:
            for way in ("plain", "reason"):
                PutOff(way).delay()
            run_pending()
        finally:
            signals.task_postponed.disconnect(hear)

        assert heard == [None, "the bank is closed"]

    def test_once_too_often_it_is_in_the_error(self, settings):
        settings.DEFAULT_POSTPONES_COUNT = 0
        task = PutOff("both").delay()
        run_pending(errors="keep")

        task.refresh_from_db()
        (error,) = task.errors
        assert error["exception_class"].endswith("MaxPostponesReached")
        assert error["message"].endswith("it was for: the bank is closed (no answer)")
        assert "no answer" in error["traceback"]

    def test_its_page_says_what_it_is(self, admin_client):
        task = PutOff("both").delay()
        run(task)

        page = admin_client.get(reverse("admin:partisan_async_task_change", args=[task.pk]))

        text = page.content.decode()
        assert "Why it postponed itself, try 1" in text
        assert "the bank is closed (no answer)" in text

    def test_it_is_no_error_of_djangos_result(self):
        """What Django shows is what failed."""
        result = tasks.put_off.enqueue()
        run_pending()

        result.refresh()
        assert result.errors == []
        assert Task.objects.get().errors[0]["message"] == "not yet"

    def test_what_is_no_text_is_refused(self):
        with pytest.raises(TypeError, match="a reason is a text, or None"):
            PostponeTask(5, reason=7)


@pytest.mark.django_db(transaction=True)
def test_it_gets_over_the_link():
    """From a worker that is a process of its own."""
    task = PutOff("both").delay()
    with live_supervisor(WORKERS_COUNT=1):
        wait_until(lambda: Task.objects.get().status == "scheduled")

    task.refresh_from_db()
    assert told(task) == [("ConnectionError", "the bank is closed (no answer)")]


class TestCancelled:
    @pytest.fixture
    def heard(self):
        heard = []

        def hear(sender, task, by, reason, **kwargs):
            heard.append((sender, task.pk, task.status, by, reason))

        signals.task_cancelled.connect(hear)
        yield heard
        signals.task_cancelled.disconnect(hear)

    @pytest.mark.parametrize(
        ("by", "reason", "message"),
        [
            ("", "", "Cancelled by hand."),
            ("ada", "", "Cancelled by ada."),
            ("", "closed", "Cancelled by hand: closed"),
            ("ada", "closed", "Cancelled by ada: closed"),
            ("a\0", "\ud800", "Cancelled by a\ufffd: \ufffd"),
            ("ada", " \n", "Cancelled by ada."),
        ],
    )
    def test_the_row_keeps_by_whom_and_why(self, by, reason, message):
        task = Write().delay()

        assert steering.cancel([task.pk], by=by, reason=reason) == [task.pk]

        task.refresh_from_db()
        (error,) = task.errors
        assert error["message"] == message
        assert len(error["by"]) == len(by)

    def test_receivers_are_told(self, heard):
        task = Write().delay()
        ended = Write("ended").delay()
        Task.objects.filter(pk=ended.pk).update(status="error", finished_at=task.created_at)

        steering.cancel([task.pk, ended.pk], by="ada", reason="closed")

        assert heard == [(Write, task.pk, "error", "ada", "closed")]

    def test_one_that_nobody_knows_is_told_of_too(self, heard):
        task = Write().delay()
        Task.objects.update(processor_class="Nowhere")

        steering.cancel([task.pk])

        assert heard == [(None, task.pk, "error", "", "")]

    def test_without_receivers_nothing_is_read(self, django_assert_num_queries):
        task = Write().delay()
        baseline = Write("other").delay()
        with django_assert_num_queries(3):
            steering.cancel([task.pk])
        signals.task_cancelled.connect(nothing)
        try:
            with django_assert_num_queries(4):
                steering.cancel([baseline.pk])
        finally:
            signals.task_cancelled.disconnect(nothing)

    def test_the_command_says_who_and_takes_a_reason(self):
        task = Write().delay()

        call_command("partisan", "cancel", str(task.pk), reason="closed", stdout=io.StringIO())

        task.refresh_from_db()
        assert task.errors[0]["message"] == f"Cancelled by {getpass.getuser()}: closed"
        assert next(s for s in reasons.why(task) if "Cancelled" in s).endswith(": closed")

    def test_the_admin_asks_for_one(self, admin_client):
        task = Write().delay()
        asked = admin_client.post(LIST, {"action": "cancel", "_selected_action": [task.pk]})
        assert 'name="reason"' in asked.content.decode()

        given = dict(asked.context["fields"]) | {"reason": " closed "}
        admin_client.post(LIST, given)

        task.refresh_from_db()
        assert task.errors[0]["message"] == "Cancelled by admin: closed"

    def test_the_admin_asks_none_for_what_keeps_none(self, admin_client):
        task = Write().delay()
        Task.objects.update(status="error", finished_at=task.created_at)

        asked = admin_client.post(LIST, {"action": "retry", "_selected_action": [task.pk]})

        assert 'name="reason"' not in asked.content.decode()


def nothing(**kwargs):
    pass


def test_a_failure_of_a_postpone_is_part_of_what_it_is():
    """Who compares decisions sees the difference."""
    from datetime import timedelta

    assert Postponed(timedelta(1)) != Postponed(timedelta(1), Failure("a.B", "why"))
