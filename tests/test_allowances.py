"""What limits allow, as supervisors write it: whose code says it, and what a change does."""

import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from partisan_async import store
from partisan_async.limits import Limit, Rate
from partisan_async.models import Limit as Row
from partisan_async.models import Supervisor, Task
from partisan_async.supervisor import allowances
from partisan_async.testing import live_supervisor
from tests.conftest import ended, wait_until
from tests.limited import execute, limit, row
from tests.testapp.partisan_tasks import Write

pytestmark = pytest.mark.django_db(transaction=True)

TTL = timedelta(seconds=30)


def supervisor(**ago):
    return Supervisor.objects.create(
        id=uuid.uuid4(),
        hostname="h",
        process={},
        queue_name="default",
        last_seen_at=timezone.now(),
        started_at=timezone.now() - timedelta(**ago),
    ).pk


def write(me, **numbers):
    told = store.Numbers("x", None, None, [], [], in_order=False)._replace(**numbers)
    statement = store.set_limits(me, [told], TTL)
    ((names,),) = execute(*statement)
    return names


class TestWhoseCode:
    def test_the_one_that_started_last_says_it(self):
        old, new = supervisor(minutes=2), supervisor(minutes=1)

        assert write(old, running=1) == ["x"]
        assert write(new, running=2) == ["x"]
        assert write(old, running=1) == []
        assert Row.objects.get().running == 2

    def test_when_that_is_gone_another_one_says_it(self):
        old, new = supervisor(minutes=2), supervisor(minutes=1)
        write(new, running=2)
        Supervisor.objects.filter(pk=new).delete()

        assert write(old, running=1) == ["x"]
        assert Row.objects.get().running == 1

    def test_one_that_has_not_beaten_says_nothing(self):
        assert write(uuid.uuid4(), running=1) is None

    def test_what_stays_the_same_is_not_written(self):
        me = supervisor()
        assert write(me, rates=[(3, 1.5)]) == ["x"]
        assert write(me, rates=[(3, 1.5)]) == []


def test_where_the_order_changes_what_waits_is_ranked_before_any_of_it_starts():
    me = supervisor()
    write(me)
    rows = [row(priority=n % 3) for n in range(7)]
    write(me, in_order=True)
    assert execute(*store.unranked()) == [("x",)]

    while execute(*store.rank("x"))[0][0]:
        pass

    assert execute(*store.unranked()) == []
    ranks = Task.objects.filter(pk__in=[each.pk for each in rows]).values_list("limit_rank")
    assert set(ranks) == {(0,)}


def test_without_an_order_any_more_what_is_not_due_waits_for_its_time():
    """The retry of a head waited as ``limited``, and held its place."""
    me = supervisor()
    write(me, in_order=True)
    later = timezone.now() + timedelta(hours=1)
    due, urgent = row("a", limit_rank=0), row("b", limit_rank=0, priority=0, execute_after=later)
    write(me)

    while execute(*store.rank("x"))[0][0]:
        pass

    assert execute(*store.unranked()) == []
    found = {each.pk: (each.status, each.limit_rank) for each in Task.objects.all()}
    assert found == {due.pk: ("limited", 10), urgent.pk: ("scheduled", 0)}


def test_what_another_supervisor_has_left_without_ranks_gets_them(monkeypatch):
    monkeypatch.setattr(allowances, "LOOK_EVERY_SECONDS", 0.2)
    monkeypatch.setattr(Write, "LIMIT", Limit(running=3, name="mine"))
    with live_supervisor(WORKERS_COUNT=1):
        wait_until(lambda: Row.objects.filter(name="mine").exists())
        Row.objects.update(ranked=False)  # as one that died just then has left it
        task = row(None, "mine", processor_class="Write", arguments={"args": ["x"], "kwargs": {}})

        wait_until(lambda: ended(task))


def test_a_supervisor_writes_what_its_code_says(monkeypatch):
    declared = Limit(running=3, rates_per_key=[Rate(100, per_seconds=1)], name="mine")
    monkeypatch.setattr(Write, "LIMIT", declared)
    with live_supervisor(WORKERS_COUNT=1):
        wait_until(lambda: Row.objects.filter(name="mine").exists())
        found = Row.objects.get(name="mine")
        assert (found.running, found.rates_per_key, found.in_order) == (3, [[100, 1]], False)


def test_rows_that_wait_for_a_limit_that_nobody_knew_start_when_it_is_written(monkeypatch):
    monkeypatch.setattr(Write, "LIMIT", Limit(running=3, name="mine"))
    task = row(None, "mine", processor_class="Write", arguments={"args": ["x"], "kwargs": {}})
    with live_supervisor(WORKERS_COUNT=1):
        wait_until(lambda: ended(task))


def test_without_any_nothing_is_written(django_assert_num_queries):
    with live_supervisor(WORKERS_COUNT=1):
        task = Write("x").delay()
        wait_until(lambda: ended(task))
    assert not Row.objects.exists()
    limit("kept")
    with live_supervisor(WORKERS_COUNT=1):
        pass
    assert Row.objects.count() == 1
