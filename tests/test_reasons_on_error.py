"""What ``why`` says of ``ON_ERROR``: who is told of a task's end, and whose end a task tells of."""

import pytest

from partisan_async import steering
from partisan_async.models import Task
from partisan_async.testing import live_supervisor, run_pending
from tests.conftest import wait_until
from tests.test_on_error import told_by
from tests.test_reasons import why
from tests.testapp import tasks
from tests.testapp.partisan_tasks import CancelItself, Fail, Told, ToldWhy, Write

__all__ = ["told_by"]  # a fixture

pytestmark = pytest.mark.django_db

WILL = "If it ends in error, its ON_ERROR is enqueued with its number: Told."
WAS = "Its ON_ERROR was enqueued with its number, if the code that ended it had one: Told."
NOT = "It was cancelled, so its ON_ERROR was not enqueued: Told."


def test_one_that_waits_says_what_will_be_called(told_by):
    told_by(Fail)

    assert WILL in why(Fail("LookupError").delay())


def test_one_that_runs_too(told_by):
    told_by(Fail)
    task = Fail("LookupError").delay()
    Task.objects.update(status="in_process", claimed_by="00000000-0000-0000-0000-00000000000b")

    assert WILL in why(task)


def test_one_that_has_failed_says_what_was_and_that_one_says_for_whom(told_by):
    told_by(Fail)
    task = Fail("LookupError").delay()
    run_pending(errors="keep")
    told = Task.objects.get(processor_class="Told")

    assert WAS in why(task)
    assert f"It tells of the end of task {task.pk}." in why(told)
    assert "ON_ERROR" not in why(told)


@pytest.mark.django_db(transaction=True)
def test_so_they_do_after_a_supervisor(told_by):
    """Whose statement writes both moments; and the row may be asked for as a model."""
    told_by(Fail, on_error=ToldWhy)
    task = Fail("LookupError").delay()
    with live_supervisor(WORKERS_COUNT=1):
        wait_until(lambda: Task.objects.count() == 2)
    told = Task.objects.exclude(pk=task.pk).get()

    assert "ON_ERROR was enqueued with its number, if the code that ended it had one:" in why(task)
    assert f"It tells of the end of task {task.pk}." in why(told)


def test_one_whose_task_was_run_again_since_says_so(told_by):
    told_by(Fail)
    task = Fail("LookupError").delay()
    run_pending(errors="keep")
    steering.retry([task.pk])
    told = Task.objects.get(processor_class="Told")

    assert f"an earlier end of task {task.pk}, which was run again since." in why(told)


@pytest.mark.parametrize("by", ["itself", "an operator"])
def test_of_a_cancelled_one_nothing_was_called(told_by, by):
    told_by(CancelItself)
    task = CancelItself("void").delay()
    if by == "itself":
        run_pending()
    else:
        steering.cancel([task.pk])

    assert NOT in why(task)


def test_one_that_has_finished_says_nothing_of_it(told_by):
    told_by(Write)
    task = Write().delay()
    run_pending()

    assert "ON_ERROR" not in why(task)


def test_django_tasks_say_it_too():
    """Theirs name a task, and are told of without a digest as any call of theirs."""
    tasks.fails_and_tells_djangos.enqueue()
    run_pending(errors="keep")
    failed, told = Task.objects.order_by("pk")

    assert "had one: tests.testapp.tasks.told_with_context." in why(failed)
    assert f"It tells of the end of task {failed.pk}." in why(told)


def test_calls_of_others_with_a_number_tell_of_nobody(told_by):
    """Such as one that somebody makes by hand, of a task that there is not, or of no failed one."""
    told_by(Fail)
    failed, fine = Fail("LookupError").delay(), Write().delay()
    for number in (failed.pk, fine.pk, 2**40):
        task = Told(number).delay()
        assert "It tells of" not in why(task)
        Task.objects.filter(pk=task.pk).update(digest=None)
        expected = number == failed.pk
        assert ("It tells of" in why(task)) == expected
        assert "It tells of the end" not in why(task)


@pytest.mark.parametrize(
    "arguments", [[], {"args": ["x"]}, {"args": [True]}, {"args": [-1]}, {"args": [2**80]}]
)
def test_rows_that_were_broken_by_hand_are_told_of_too(told_by, arguments):
    told_by(Fail)
    failed, told = Fail("LookupError").delay(), Told(1).delay()
    Task.objects.filter(pk=failed.pk).update(id=1)
    Task.objects.filter(pk=told.pk).update(digest=None)
    assert "It tells of" in why(told)
    Task.objects.filter(pk=told.pk).update(arguments=arguments)

    assert "It tells of" not in why(told)


def test_what_cannot_be_told_is_left_out(told_by):
    """A check tells of it; and of code that is gone nobody knows."""
    told_by(Fail, on_error="Told")
    task = Fail("LookupError").delay()
    assert "ON_ERROR" not in why(task)

    Task.objects.update(processor_class="Gone")
    assert "ON_ERROR" not in why(task)
