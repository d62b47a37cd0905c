"""Tasks that wait for limits, and real supervisors that run them."""

from datetime import timedelta
from itertools import pairwise

import pytest
from django.utils import timezone

from partisan_async import steering, store
from partisan_async.limits import Limit
from partisan_async.models import Limit as Row
from partisan_async.models import LimitOverride, LimitPause, LimitStart, Supervisor, Task
from partisan_async.store.rates import GRANULES
from partisan_async.testing import live_supervisor
from tests.conftest import ended, marks, wait_until
from tests.limited import execute, limit, row
from tests.testapp.models import Mark
from tests.testapp.partisan_tasks import ComeBack, Wait, Write

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


@pytest.mark.parametrize("numbers", [{"running": 1}, {"running_per_key": 1}])
def test_one_worker_serves_keys_in_turns(numbers):
    limit(**numbers)
    tasks = [called(Write, f"a {n}", key="a") for n in range(20)]
    tasks += [called(Write, f"{key}", key=key) for key in "bc"]

    with live_supervisor(WORKERS_COUNT=1):
        wait_until(lambda: ended(*tasks))

    assert {"b", "c"} < set(marks()[:4])


@pytest.mark.parametrize("numbers", [{"running": 1}, {"running_per_key": 1}])
def test_what_another_queue_has_ended_frees_it_here(tmp_path, numbers):
    go = tmp_path / "go"
    limit(**numbers)
    with live_supervisor(WORKERS_COUNT=2), live_supervisor("other", WORKERS_COUNT=2):
        first = called(Wait, str(go), 1, key="a", queue_name="other")
        wait_until(lambda: Task.objects.get(pk=first.pk).status == "in_process")
        second = called(Write, "second", key="a")
        # Claims of limits come first in a turn: when this has run, theirs were in vain.
        beside = Write("beside").delay()
        wait_until(lambda: ended(beside))
        assert not ended(second)

        go.touch()

        wait_until(lambda: ended(first, second))


def test_what_an_operator_allows_again_starts_though_none_of_its_limit_ends():
    limit(running=1)
    closed = LimitOverride.objects.create(name="x", key=None, running=0)
    with live_supervisor(WORKERS_COUNT=1):
        tasks = [called(Write, str(n), key=str(n % 3)) for n in range(6)]
        # Claims of limits come first in a turn: when this has run, theirs were in vain.
        beside = Write("beside").delay()
        wait_until(lambda: ended(beside))
        closed.delete()
        notify("limited")
        wait_until(lambda: ended(*tasks))


def test_what_waited_behind_one_that_was_cancelled_starts():
    """In order; the time of that one was known, and does not matter any more."""
    limit(in_order=True)
    with live_supervisor(WORKERS_COUNT=1):
        an_hour_later = timezone.now() + timedelta(hours=1)
        head = called(Write, "head", execute_after=an_hour_later, limit_rank=0)
        second = called(Write, "second", limit_rank=0)
        beside = Write("beside").delay()
        wait_until(lambda: ended(beside))
        assert not ended(second)

        assert steering.cancel([head.pk]) == [head.pk]

        wait_until(lambda: ended(second))


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


class TestDeclared:
    """The whole way: a processor with a limit, its calls, and their runs."""

    @pytest.fixture
    def declared(self, monkeypatch):
        def declare(processor=Write, **parts):
            monkeypatch.setattr(processor, "LIMIT", Limit(name="partner", **parts))
            monkeypatch.setattr(
                processor, "limit_key", lambda self: str(self.args[0])[:1], raising=False
            )

        return declare

    def test_calls_are_run_one_by_one(self, declared):
        declared(running_per_key=1)
        with live_supervisor(WORKERS_COUNT=3):
            tasks = [Write(f"{key} {n}").delay() for n in range(10) for key in "ab"]
            assert {task.status for task in tasks} == {"limited"}
            tasks += Write.bulk_delay([Write(f"{key} bulk {n}") for n in range(9) for key in "ab"])
            wait_until(lambda: ended(*tasks))

        assert {(task.limit_name, task.limit_key) for task in tasks} == {
            ("partner", "a"),
            ("partner", "b"),
        }
        assert len(marks()) == 38

    def test_in_the_order_of_their_ids(self, declared):
        declared(in_order=True)
        with live_supervisor(WORKERS_COUNT=3):
            names = [f"a {n}" for n in range(10)]
            tasks = [Write(name).delay(priority=9 - n) for n, name in enumerate(names)]
            wait_until(lambda: ended(*tasks))

        assert marks() == names

    def test_one_that_is_told_to_come_back_later_pauses_its_key(self, declared):
        declared(ComeBack, running_per_key=1)
        with live_supervisor(WORKERS_COUNT=2):
            first = ComeBack("a", 1).delay()
            wait_until(lambda: LimitPause.objects.exists())
            until = LimitPause.objects.get().until
            others = [ComeBack("a other", 0).delay(), ComeBack("b", 0).delay()]
            wait_until(lambda: ended(first, *others))

        first.refresh_from_db(), others[0].refresh_from_db()
        assert (first.postpones, first.tries) == (0, 1)
        assert others[0].started_at >= until - timedelta(milliseconds=1)
        assert first.errors[0]["message"] == "busy"

    def test_one_that_failed_waits_for_its_limit_again(self, declared):
        declared(running_per_key=1)
        task = Write("a").delay()
        Task.objects.filter(pk=task.pk).update(status="error", finished_at=timezone.now())
        with live_supervisor(WORKERS_COUNT=1):
            wait_until(lambda: Row.objects.exists())
            assert steering.retry([task.pk]) == [task.pk]
            wait_until(lambda: ended(task))

        assert marks() == ["a"]

    def test_one_that_is_to_run_now_does_when_its_limit_allows(self, declared):
        declared(running_per_key=1)
        task = Write("a").delay(execute_after=timezone.now() + timedelta(hours=1))
        assert task.status == "scheduled"
        with live_supervisor(WORKERS_COUNT=1):
            wait_until(lambda: Row.objects.exists())
            assert steering.run_now([task.pk]) == [task.pk]
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
