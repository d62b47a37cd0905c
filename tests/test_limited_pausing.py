"""What waits for a limit while its processor or its queue is paused: nothing of it starts."""

import time

import pytest

from partisan_async import steering
from partisan_async.models import Task
from partisan_async.store.notifying import STEERED
from partisan_async.supervisor.claimer import Claimer
from partisan_async.testing import live_supervisor
from tests.conftest import ended, wait_until
from tests.limited import limit, row
from tests.test_limited_runs import called, notify
from tests.test_newcomers import statements  # noqa: F401  a fixture
from tests.testapp.models import Mark
from tests.testapp.partisan_tasks import Nothing, Wait, Write

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def supervisor():
    """With slow beats, so that what happens at once was told by NOTIFY."""
    with live_supervisor(WORKERS_COUNT=2, beat_seconds=20, ttl_seconds=100) as supervisor:
        first = Nothing().delay()
        wait_until(lambda: ended(first))
        yield supervisor


def untouched(*tasks):
    """Tell whether these wait, and were never claimed."""
    found = Task.objects.filter(pk__in=[task.pk for task in tasks])
    return set(found.values_list("status", "claim_seq")) == {("limited", 0)}


class TestProcessor:
    def pause(self, supervisor, name="Write"):
        assert steering.pause(processor=name)
        wait_until(lambda: name in supervisor.parts.dispatcher.pauses.processors)

    def test_nothing_of_it_starts_and_others_of_the_key_do_until_it_is_resumed(self, supervisor):
        limit(running_per_key=1)
        self.pause(supervisor)
        paused = [called(Write, f"paused {n}") for n in range(3)]
        other = called(Nothing)
        wait_until(lambda: ended(other))

        assert untouched(*paused)
        assert steering.resume(processor="Write")
        wait_until(lambda: ended(*paused))

    def test_in_order_the_first_one_holds_up_those_behind_it(self, supervisor):
        limit(in_order=True)
        self.pause(supervisor)
        first = called(Write, "first", limit_rank=0)
        behind = called(Nothing, limit_rank=0)
        other = called(Nothing, key="other", limit_rank=0)
        wait_until(lambda: ended(other))

        assert untouched(first, behind)
        assert steering.resume(processor="Write")
        wait_until(lambda: ended(first, behind))
        first.refresh_from_db(), behind.refresh_from_db()
        assert first.finished_at <= behind.started_at

    def test_what_became_due_meanwhile_waits_too(self, supervisor):
        limit(running_per_key=1)
        self.pause(supervisor)
        due = called(Write, "due", status="scheduled")
        notify("scheduled")
        wait_until(lambda: Task.objects.get(pk=due.pk).status == "limited")
        other = called(Nothing, key="other")
        wait_until(lambda: ended(other))

        assert untouched(due)
        assert steering.resume(processor="Write")
        wait_until(lambda: ended(due))


class TestQueue:
    def test_nothing_starts_until_it_is_resumed(self, supervisor, statements):  # noqa: F811
        limit(running_per_key=1)
        row("held", name="nobody's")
        for _ in range(4):  # it knows of all that waits
            beat_once_more(statements)
        steering.pause("default")
        wait_until(lambda: supervisor.parts.dispatcher.pauses.queue)
        tasks = [called(Write, str(n), key=str(n)) for n in range(3)]
        beat_once_more(statements)  # it has heard of them

        assert untouched(*tasks)
        steering.resume("default")
        wait_until(lambda: ended(*tasks))

    def test_what_runs_of_a_key_that_is_full_ends_and_nothing_follows(self, supervisor, tmp_path):
        go = tmp_path / "go"
        limit(running_per_key=1)
        first, second = called(Wait, str(go), 1), called(Wait, str(go), 2)
        wait_until(lambda: Mark.objects.count() == 1)
        steering.pause("default")
        wait_until(lambda: supervisor.parts.dispatcher.pauses.queue)
        go.touch()
        wait_until(lambda: ended(first))

        assert untouched(second)
        steering.resume("default")
        wait_until(lambda: ended(second))


def beat_once_more(statements):  # noqa: F811
    beats = beats_of(statements)
    notify(STEERED)
    wait_until(lambda: beats_of(statements) > beats)


def beats_of(statements):  # noqa: F811
    return sum("beat AS" in str(each) for each in statements)


def test_a_key_that_opens_while_all_workers_are_busy_makes_nobody_spin(tmp_path, monkeypatch):
    """The claimer sleeps until there is room; then the key is looked at."""
    go = tmp_path / "go"
    turns = []
    take = Claimer._take

    async def counted(self):
        turns.append(time.monotonic())
        return await take(self)

    monkeypatch.setattr(Claimer, "_take", counted)
    limit(rates_per_key=[[1, 1.0]])
    with live_supervisor(WORKERS_COUNT=1, beat_seconds=0.2) as supervisor:
        first = called(Write, "first")
        wait_until(lambda: ended(first))
        second = called(Write, "second")
        wait_until(lambda: supervisor.parts.agenda.keys.next_at())
        opens_at = supervisor.parts.agenda.keys.next_at()
        busy = Wait(str(go), 1).delay()
        wait_until(lambda: Mark.objects.count() == 2)
        wait_until(lambda: turns[-1] > opens_at)
        before = len(turns)
        wait_until(lambda: turns[-1] > opens_at + 1)

        assert len(turns) - before < 100
        assert untouched(second)
        go.touch()
        wait_until(lambda: ended(busy, second))
