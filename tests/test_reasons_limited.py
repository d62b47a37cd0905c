"""``manage.py partisan why`` of a task that waits for its limit, by making each answer happen."""

import re
import time
import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F
from django.utils import timezone

from partisan_async import steering
from partisan_async.enqueue.run import fetch
from partisan_async.models import LimitOverride, LimitPause, Supervisor, Task
from partisan_async.operate.limit_statements import ROOM
from partisan_async.operate.reasons import limited, pace
from tests.limited import Limited, limit, row
from tests.test_admin import page_of
from tests.test_dashboard import client_of, text_of
from tests.test_limited_counts import read
from tests.test_limits_command import start
from tests.test_reasons import CaptureRows, alive, soon, why

__all__ = ["alive"]  # a fixture

pytestmark = pytest.mark.django_db


def said(task):
    """Return the sentences without those on identical calls and processors."""
    title, *sentences = why(task).splitlines()
    assert title == f"{task.pk} {task.processor_class}, Limited"
    text = " ".join(each.removeprefix("- ").strip() for each in sentences)
    return text.partition(" Processor class 'Nothing'")[0]


def running(key="k", name="x", count=1):
    """Insert tasks that run under a limit."""
    held = {"status": "in_process", "claimed_by": uuid.uuid4(), "claimed_at": timezone.now()}
    return [row(key, name, **held) for _ in range(count)]


def test_the_first_sentence_is_what_it_waits_for(alive):
    limit("partner", running_per_key=2, running=20)
    one, two = running("acme", "partner", 2)
    (other,) = running("else", "partner")
    before = [row("acme", "partner") for _ in range(3)]
    task = row("acme", "partner")
    row("acme", "partner")
    row("else", "partner")
    row("acme", "another")
    row("acme", "partner", queue_name="elsewhere")

    assert said(task) == (
        "It waits for limit 'partner', key 'acme'."
        f" Of its key 2 of at most 2 run: {one.pk} Nothing, {two.pk} Nothing."
        f" Under this limit 3 of at most 20 run: {one.pk} Nothing, {two.pk} Nothing,"
        f" {other.pk} Nothing."
        " 3 tasks of its key come before it."
    )
    assert said(before[1]).endswith("1 task of its key comes before it.")
    assert said(before[0]).endswith("It is the first of its key.")


def test_one_without_a_key(alive):
    limit("partner", running=1, running_per_key=2)
    first, task = row(None, "partner"), row(None, "partner")
    row("acme", "partner", priority=0)

    assert said(task) == (
        "It waits for limit 'partner'. Under this limit none runs, and at most 1 may."
        " 1 task without a key comes before it."
    )
    assert said(first).endswith("It is the first of those without a key.")


def test_the_turn_is_by_rank_and_then_by_id(alive):
    limit()
    later, task = row(priority=5), row(priority=5)
    row(priority=9), row(priority=1)

    assert "2 tasks of its key come before it." in said(task)
    assert "1 task of its key comes before it." in said(later)


def test_a_limit_that_no_supervisor_has_written(alive):
    assert "What that limit allows is not known yet, and nothing of it starts" in said(row())


def test_one_whose_tasks_get_another_order(alive):
    limit(ranked=False)

    assert "Its tasks are being put into another order, and none starts until then." in said(row())


def test_in_order(alive):
    limit(in_order=True)
    (head,) = running()

    assert (
        "Those of a key run one at a time, in the order of their ids."
        f" Of its key 1 of at most 1 run: {head.pk} Nothing."
    ) in said(row())


def test_rates(alive):
    limit(rates=[[10_000, 3600]], rates_per_key=[[100, 60]])

    assert "No more start than: 10,000 in 60 minutes, 100 of its key in 60 seconds." in said(row())
    assert "No more start than: 10,000 in 60 minutes. It" in said(row(None))


def test_what_an_operator_has_changed(alive):
    limit(running=20, running_per_key=2)
    LimitOverride.objects.create(name="x", key="other", running=8)
    LimitOverride.objects.create(name="x", key="k", running=7)
    LimitOverride.objects.create(name="x", running=30)

    told = said(row())

    assert "Of its key none runs, and at most 7 may." in told
    assert "Under this limit none runs, and at most 30 may." in told


def test_what_an_operator_has_closed(alive):
    limit(running=20, running_per_key=2)
    LimitOverride.objects.create(name="x", key="k", running=0)
    assert "Its key was closed at " in said(row())
    assert "The limit was closed" not in said(row())

    LimitOverride.objects.create(name="x", running=0)

    assert "The limit was closed at " in said(row(None))


def test_a_key_that_pauses(alive):
    limit()
    LimitPause.objects.create(name="x", key="k", until=soon(minutes=5, seconds=1))
    LimitPause.objects.create(name="x", key="over", until=soon(minutes=-5))

    assert "None of its key starts until 2" in said(row())
    assert "(in 5 minutes), as one of them asked." in said(row())
    assert "starts until" not in said(row("over")) + said(row(None))
    LimitPause.objects.create(name="x", until=soon(minutes=5))
    assert "None without a key starts until 2" in said(row(None))


def test_a_head_that_is_not_due(alive):
    limit(in_order=True)

    told = said(row(execute_after=soon(minutes=5, seconds=1)))

    assert "It starts no earlier than 2" in told


def test_what_keeps_any_task_from_starting_keeps_it_too(alive):
    limit(running=1)
    task = row()
    steering.pause("default")
    assert "Queue 'default' was paused" in why(task)
    Supervisor.objects.all().delete()
    assert "Nobody serves queue 'default'" in why(task)


def test_workers_that_are_busy(alive):
    limit()
    (run,) = running("other")
    told = {"id": run.pk, "processor": "Nothing", "seconds": 3}
    Supervisor.objects.update(workers=[{"pid": 8, "running": 1, "tasks": [told]}])

    assert "The only worker of queue 'default' is busy" in why(row())


def test_it_is_not_called_the_next_of_the_queue(alive):
    """The limit says when it starts, and not the tasks that wait for none."""
    limit(running=1)

    assert "nothing is before it" not in why(row())


def test_counting_stops(alive, monkeypatch):
    """Of a hundred thousand before it a thousand are read; at a size where plans differ."""
    limit()
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO partisan_async_task (queue_name, processor_class, arguments, priority,"
            " execute_after, status, limit_name, limit_key, limit_rank) SELECT 'default',"
            " 'Nothing', '{}', 10, now(), 'limited', 'x', (n % 2)::text, 10"
            " FROM generate_series(1, 20000) n"
        )
        cursor.execute("ANALYZE partisan_async_task")
    with CaptureRows() as rows:
        assert "more than 1,000 tasks of its key come before it." in said(row("1"))

    assert rows.most == limited.COUNTED + 1


def test_many_that_run_are_counted_and_some_are_named(alive):
    limit(running_per_key=50)
    run = running(count=7)

    first = ", ".join(f"{each.pk} Nothing" for each in run[:5])
    assert f"Of its key 7 of at most 50 run: {first}, …." in said(row())


def test_a_key_and_other_tasks_are_for_those_who_may_see_them():
    """A key may be a person's name."""
    limit(running_per_key=1)
    running("ada@example.org")
    task = row("ada@example.org")

    told = text_of(client_of("view_task").get(page_of(task)))
    assert "It waits for limit &#x27;x&#x27;, key (its text is hidden from you)." in told
    assert "ada@" not in told
    reader = client_of("view_task", "view_arguments", name="reader")
    assert "key &#x27;ada@example.org&#x27;." in text_of(reader.get(page_of(task)))


class TestNextStart:
    def test_by_a_rate_of_all_or_of_its_key(self, alive):
        """As the claim counts: a window after the first start that it holds, and a granule."""
        limit(rates=[[5, 3600]], rates_per_key=[[2, 600]])
        start("x", 2, 600, key="k", seconds_ago=240)
        task, without = row(), row(None)

        assert re.search(
            r"By that the next one starts no earlier than \S+ \S+ \(in [56] minutes\)\.", said(task)
        )
        assert "no earlier than" not in said(without)
        start("x", 5, 3600, seconds_ago=1800)
        assert re.search(r"no earlier than \S+ \S+ \(in (29|30) minutes\)\.", said(task))
        assert re.search(r"no earlier than \S+ \S+ \(in (29|30) minutes\)\.", said(without))

    def test_the_claim_starts_it_then_and_not_before(self, alive, transactional_db):
        limit(rates_per_key=[[1, 0.5]])
        start("x", 1, 0.5, key="k")
        task = row()
        claimer = Limited()
        ((_, promised),) = fetch(ROOM, {"name": "x", "key": "k"})

        while not claimer.claim_limited([("x", "k")]):
            time.sleep(0.01)  # the time is what it waits for
        claimer.connection.close()

        task.refresh_from_db()
        assert timedelta(0) <= task.claimed_at - promised


def ends(count, seconds_ago, key="k", **columns):
    """Insert tasks that have ended, one after the other, until now."""
    moment = timezone.now()
    for n in range(count):
        at = moment - timedelta(seconds=seconds_ago * (count - n) / count)
        row(key, status="finished", finished_at=at, **columns)


class TestPace:
    def test_by_what_has_ended_of_its_key(self, alive):
        limit(running_per_key=1)
        running()
        ends(10, 1000), ends(50, 1000, key="other"), ends(50, 1000, name="y")
        ends(50, 1000, queue_name="elsewhere")
        _, _, task = row(), row(), row()

        # Nine in a thousand seconds, and three are to go.
        assert said(task).endswith(
            "2 tasks of its key come before it. At the pace of the last ones it starts in about 5"
            " minutes."
        )

    def test_of_those_without_a_key(self, alive):
        limit(running=1)
        ends(5, 1000, key=None), ends(50, 1000)

        assert "it starts in about 4 minutes." in said(row(None))

    def test_of_a_key_of_which_nothing_ends_any_more_it_gets_slower(self, alive):
        limit()
        ends(10, 100)
        Task.objects.filter(status="finished").update(
            finished_at=F("finished_at") - timedelta(minutes=30)
        )

        assert "it starts in about 3 minutes." in said(row())

    @pytest.mark.parametrize(("count", "minutes"), [(0, 0), (2, 0), (9, 61)])
    def test_of_too_few_there_is_none(self, alive, count, minutes):
        """What ended in another hour, or by chance, says nothing."""
        limit()
        ends(count, 10)
        Task.objects.filter(status="finished").update(
            finished_at=F("finished_at") - timedelta(minutes=minutes)
        )

        assert "pace" not in said(row())

    @pytest.mark.parametrize("key", [None, "k"])
    def test_none_while_it_is_held_back(self, alive, key):
        limit()
        ends(9, 10)
        LimitOverride.objects.create(name="x", key=key, running=0)
        assert "pace" not in said(row())
        LimitOverride.objects.all().delete()
        LimitOverride.objects.create(name="x", key="other", running=0)
        assert "pace" in said(row())
        LimitPause.objects.create(name="x", key="k", until=timezone.now() + timedelta(minutes=1))

        assert "pace" not in said(row())

    def test_at_most_a_thousand_ends_of_each_kind_are_looked_at(self, alive):
        limit()
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO partisan_async_task (queue_name, processor_class, arguments, priority,"
                " execute_after, status, finished_at, limit_name, limit_key, limit_rank) SELECT"
                " 'default', 'Nothing', '{}', 10, now(), 'finished',"
                " now() - make_interval(secs => n / 10.0), 'x', 'k', 10"
                " FROM generate_series(1, 20000) n"
            )
            cursor.execute("ANALYZE partisan_async_task")
        params = {
            "statuses": ["finished", "error"], "queue_name": "default", "name": "x", "key": "k",
            "lately": pace.LATELY,
        }  # fmt: skip

        scans = read(pace._PACE, params)

        assert not [each for each in scans if "Seq" in each[0]]
        assert sum(rows for *_, rows, _ in scans) == pace.LOOKED_AT
