"""``manage.py partisan why`` of a task that waits for its limit, by making each answer happen."""

import uuid

import pytest
from django.db import connection
from django.utils import timezone

from partisan_async import steering
from partisan_async.models import LimitOverride, LimitPause, Supervisor
from partisan_async.operate.reasons import limited
from tests.limited import limit, row
from tests.test_admin import page_of
from tests.test_dashboard import client_of, text_of
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
