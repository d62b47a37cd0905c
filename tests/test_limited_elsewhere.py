"""What holds one supervisor up does not hold up what waits for limits: others, or it, go on."""

from datetime import timedelta
from threading import Event, Thread

import pytest
from django.db import connection, transaction
from django.utils import timezone

from partisan_async.models import Task
from partisan_async.testing import live_supervisor
from tests.conftest import DEADLINE_SECONDS, ended, wait_until
from tests.limited import limit, row
from tests.test_limited_runs import called, notify
from tests.test_limited_wake import listening
from tests.testapp.models import Mark
from tests.testapp.partisan_tasks import Wait, Write

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def locked():
    """Yield a ready row that another transaction has locked meanwhile."""
    first = row(status="new", limit_name=None, limit_key=None, limit_rank=None, priority=1)
    is_locked, is_over = Event(), Event()

    def hold():
        with transaction.atomic():
            Task.objects.select_for_update().get(pk=first.pk)
            is_locked.set()
            is_over.wait(DEADLINE_SECONDS)
        connection.close()

    thread = Thread(target=hold)
    thread.start()
    assert is_locked.wait(DEADLINE_SECONDS)
    yield first
    is_over.set()
    thread.join()


def test_a_ready_row_that_somebody_has_locked_holds_nothing_up(locked):
    """A claim under limits leaves room for it, and the claim of ready rows does not get it."""
    limit(running_per_key=1)
    with live_supervisor(WORKERS_COUNT=1):
        task = called(Write, "limited", key="a")
        wait_until(lambda: ended(task))

    locked.refresh_from_db()
    assert locked.status == "new"


def test_what_one_has_promoted_that_has_no_worker_free_is_told_to_others(tmp_path):
    limit(running_per_key=1)
    go = tmp_path / "go"
    payloads = []
    with listening("default") as heard, live_supervisor(WORKERS_COUNT=1):
        busy = Wait(str(go), "busy").delay()
        wait_until(lambda: Mark.objects.exists())
        due = timezone.now() + timedelta(seconds=0.3)
        call = {"args": ["due"], "kwargs": {}}
        task = row(processor_class="Write", arguments=call, status="scheduled", execute_after=due)
        notify("scheduled")

        wait_until(lambda: payloads.extend(heard()) or f"limited:{task.pk}" in payloads)
        go.touch()
        wait_until(lambda: ended(busy, task))
