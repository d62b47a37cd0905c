"""A limit that is in order from now on: what has another rank from before gets its new one."""

from datetime import timedelta

import pytest
from django.utils import timezone

from partisan_async import steering, store
from partisan_async.enqueue.run import fetch
from partisan_async.models import Task
from partisan_async.policy import Failure, GivenBack, Retried
from tests.limited import Limited, ids, limit, row
from tests.test_races import TTL

pytestmark = pytest.mark.django_db(transaction=True)

K = ("x", "k")
GIVEN_BACK = GivenBack()
BOOM = Failure("builtins.ValueError", "boom", "Traceback")


@pytest.fixture
def other(transactional_db):
    other = Limited()
    yield other
    other.connection.close()


def promoted(task, other):
    Task.objects.filter(pk=task.pk).update(status="scheduled")
    return lambda: other.execute(store.promote("default"))


def settled(task, other, decision=GIVEN_BACK):
    (claim,) = other.claim_limited([K], ids=[task.pk])
    return lambda: other.settle(claim, decision)


def tried_again(task, other):
    return settled(task, other, Retried(timedelta(0), BOOM))


def rescued(task, other):
    settled(task, other)
    heir = Limited()
    heir.connection.close()
    return lambda: fetch(
        *store.rescue(heir.me, "default", 10, TTL, dead=[other.me], by_clock=False)
    )


def run_again(task, other):
    Task.objects.filter(pk=task.pk).update(status="error", finished_at=timezone.now())
    return lambda: steering.retry([task.pk])


def run_now(task, other):
    Task.objects.filter(pk=task.pk).update(status="scheduled")
    return lambda: steering.run_now([task.pk])


WAYS = [promoted, settled, tried_again, rescued, run_again, run_now]


@pytest.mark.parametrize("way", WAYS)
def test_what_waits_again_has_the_place_of_its_id(other, way):
    """It had a later one, by its priority, before the limit was in order."""
    limit(running_per_key=9)
    first = row(priority=9)
    back = way(first, other)
    limit(running_per_key=None, in_order=True)
    second = row(priority=1, limit_rank=0)

    back()

    first.refresh_from_db()
    assert (first.status, first.limit_rank) == ("limited", 0)
    assert ids(other.claim_limited([K])) == [first.pk]
    assert second.pk > first.pk
