"""Tasks that wait for limits, and real supervisors that run them."""

from datetime import timedelta
from itertools import pairwise

import pytest
from django.utils import timezone

from partisan_async import store
from partisan_async.models import LimitStart, Supervisor, Task
from partisan_async.store.limiting import GRANULES
from partisan_async.testing import live_supervisor
from tests.conftest import ended, marks, wait_until
from tests.limited import execute, limit, row
from tests.testapp.models import Mark
from tests.testapp.partisan_tasks import Wait, Write

pytestmark = pytest.mark.django_db(transaction=True)


def called(processor, *args, **columns):
    """Insert a call of a processor that waits for a limit, and tell of it."""
    task = row(
        processor_class=processor.__name__, arguments={"args": list(args), "kwargs": {}}, **columns
    )
    notify(f"limited:{task.pk}")
    return task


def notify(payload, queue="default"):
    execute("SELECT pg_notify(%s, %s)", [store.channel(queue), payload])


def test_all_that_waits_is_run():
    limit(running_per_key=1)
    tasks = [called(Write, str(n), key=str(n % 3)) for n in range(30)]

    with live_supervisor(WORKERS_COUNT=2):
        wait_until(lambda: ended(*tasks))
        late = [called(Write, f"late {n}", key=str(n % 3)) for n in range(30)]
        wait_until(lambda: ended(*late))

    assert len(marks()) == 60


def test_of_a_key_one_runs_and_the_others_when_it_has_ended(tmp_path):
    go = tmp_path / "go"
    limit(running_per_key=1)
    with live_supervisor(WORKERS_COUNT=3):
        first = [called(Wait, str(go), n, key="a") for n in range(3)]
        other = called(Write, "b", key="b")
        wait_until(lambda: ended(other))

        assert [Task.objects.get(pk=each.pk).status for each in first] == [
            "in_process", "limited", "limited",
        ]  # fmt: skip
        go.touch()
        wait_until(lambda: ended(*first))


def test_a_rate_starts_the_next_by_itself():
    limit(rates_per_key=[[1, 0.5]])
    tasks = [row(processor_class="Write", arguments={"args": [n], "kwargs": {}}) for n in range(4)]
    with live_supervisor(WORKERS_COUNT=2):
        wait_until(lambda: ended(*tasks))

    counted = LimitStart.objects.order_by("granule").values_list("granule", "count")
    assert [count for _, count in counted] == [1] * 4
    granules = [granule for granule, _ in counted]
    assert all(later - sooner > GRANULES for sooner, later in pairwise(granules))


def test_ready_tasks_run_beside_a_key_that_is_full(tmp_path):
    go = tmp_path / "go"
    limit(running_per_key=1)
    with live_supervisor(WORKERS_COUNT=2):
        held = [called(Wait, str(go), n) for n in range(5)]
        wait_until(lambda: Mark.objects.count() == 1)
        others = [Write(n).delay() for n in range(10)]
        wait_until(lambda: ended(*others))
        go.touch()
        wait_until(lambda: ended(*held))


def test_one_that_was_made_ready_waits_for_its_limit_all_the_same(tmp_path):
    """As an older release does, which knows no limits."""
    go = tmp_path / "go"
    limit(running_per_key=1)
    with live_supervisor(WORKERS_COUNT=2):
        first = called(Wait, str(go), 1)
        wait_until(lambda: Mark.objects.count() == 1)
        early = row(
            processor_class="Write", arguments={"args": ["early"], "kwargs": {}}, status="new"
        )
        notify("new")
        wait_until(lambda: Task.objects.get(pk=early.pk).status == "limited")

        go.touch()
        wait_until(lambda: ended(first, early))


def test_what_is_due_waits_for_its_limit():
    limit(running_per_key=1)
    due = timezone.now() + timedelta(seconds=0.3)
    with live_supervisor(WORKERS_COUNT=2):
        task = row(
            processor_class="Write",
            arguments={"args": ["due"], "kwargs": {}},
            status="scheduled",
            execute_after=due,
        )
        notify("scheduled")
        wait_until(lambda: ended(task))


def test_those_of_a_supervisor_that_is_gone_wait_for_their_limit_again():
    limit(running_per_key=1)
    lost, other = row(processor_class="Write", arguments={"args": ["x"], "kwargs": {}}), row()
    gone = "00000000-0000-4000-8000-000000000000"
    Task.objects.filter(pk=lost.pk).update(
        status="in_process", claimed_by=gone, claimed_at=timezone.now()
    )
    with live_supervisor(WORKERS_COUNT=2, beat_seconds=0.2, ttl_seconds=1):
        wait_until(lambda: ended(lost, other))

    lost.refresh_from_db()
    assert (lost.interrupted, lost.claim_seq) == (1, 2)
    assert not Supervisor.objects.exists()
