"""The two ways of the page on order keep it."""

import pytest

from partisan_async.models import Task
from partisan_async.testing import live_supervisor
from tests.conftest import ended, marks, wait_until
from tests.testapp.models import Mark
from tests.testapp.partisan_tasks import DoNext, Write

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_queue_with_one_worker_runs_one_after_the_other():
    tasks = Write.bulk_delay([Write(f"{number:02}") for number in range(20)])

    with live_supervisor(WORKERS_COUNT=1):
        wait_until(lambda: ended(*tasks))

    assert marks() == [f"{number:02}" for number in range(20)]


def test_each_does_the_oldest_and_enqueues_the_next():
    """Through a failure, a retry of it, and two workers."""
    for number in range(5):
        for customer in ("ada", "bob"):
            Mark.objects.create(text=f"to do {customer} {number}", pid=0)

    with live_supervisor(WORKERS_COUNT=2):
        for _ in range(2):
            for customer in ("ada", "bob"):
                DoNext(customer).delay()
        wait_until(lambda: not Mark.objects.filter(text__startswith="to do").exists())
        wait_until(lambda: ended(*Task.objects.all()))

    for customer in ("ada", "bob"):
        done = [text for text in marks() if customer in text]
        assert done == [f"done {customer} {number}" for number in range(5)]
    retried = Task.objects.filter(errors__0__exception_class="builtins.TimeoutError")
    assert retried.exists()
