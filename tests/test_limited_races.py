"""Claims under limits that meet: what runs is counted beneath a lock that was taken before."""

import random
import threading
import time

import pytest
from django.db import connection, connections

from partisan_async import store
from partisan_async.models import LimitStart, Task
from partisan_async.policy import Failure, Finished, Retried
from partisan_async.store.rates import GRANULES
from tests.conftest import wait_until
from tests.limited import Limited, execute, ids, limit, row
from tests.test_races import TTL, timedelta

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def other(transactional_db):
    other = Limited()
    yield other
    other.connection.close()


@pytest.fixture
def third(transactional_db):
    third = Limited()
    yield third
    third.connection.close()


def waiting_for_locks():
    ((count,),) = execute(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND datname = current_database()"
    )
    return count


def meet(other, third, claim):
    """Have one claim meet another one's, of another key, that is not committed yet."""
    limit(running=1)
    row("a"), row("b")
    locks, claims = store.claim_limited(other.me, "default", 10, TTL, [("x", "a")])
    found = []
    with other.connection.transaction():
        other.execute(locks)
        first, _ = store.outcome(other.execute(claims))
        meeting = threading.Thread(target=lambda: found.extend(claim(third)))
        meeting.start()
        wait_until(lambda: waiting_for_locks() == 1 or not meeting.is_alive())
    meeting.join()
    return ids(first), ids(found)


def test_who_comes_second_waits_and_counts_what_the_first_has_started(other, third):
    first, second = meet(other, third, lambda each: each.claim_limited([("x", "b")]))

    assert len(first) == 1
    assert second == []


def test_a_lock_in_the_statement_that_counts_would_be_too_late(other, third):
    """Else the other test proves nothing: the count is as old as its statement."""

    def claim(each):
        _, claims = store.claim_limited(each.me, "default", 10, TTL, [("x", "b")])
        held = "SELECT set_config('partisan_async.held', '[\"x\"]', true)"
        # As a locking CTE in front of the rest: its snapshot is older than its lock.
        merged = claims.sql.replace(
            "held AS MATERIALIZED (",
            "locked AS MATERIALIZED (SELECT name FROM partisan_async_limit WHERE name = 'x'"
            " FOR UPDATE), held AS MATERIALIZED (SELECT name FROM locked INTERSECT ",
            1,
        )
        with each.connection.transaction():
            each.connection.execute(held)
            found, _ = store.outcome(each.connection.execute(merged, claims.params).fetchall())
        return found

    first, second = meet(other, third, claim)

    assert len(first) == len(second) == 1


def test_what_a_role_asks_for_does_not_matter(other, third):
    """By repeatable read the snapshot would be that of the lock's statement, before it is had."""
    third.connection.execute("SET default_transaction_isolation = 'repeatable read'")

    _, second = meet(other, third, lambda each: each.claim_limited([("x", "b")]))

    assert second == []


BOOM = Failure("builtins.ValueError", "boom", "Traceback …")

SECONDS = 6.0


class Storm:
    """Supervisors that claim, settle and look at all that runs after each claim."""

    def __init__(self):
        self.wrong = []
        self.claims = 0

    def supervise(self, seed):
        drawn, other = random.Random(seed), Limited()
        keys = [("all", f"k{n}") for n in range(20)] + [("all", None)]
        keys += [("order", f"o{n}") for n in range(5)] + [("rate", "r1"), ("rate", "r2")]
        until = time.monotonic() + SECONDS
        try:
            while time.monotonic() < until:
                claims = other.claim_limited(drawn.sample(keys, 12), limit=drawn.randrange(1, 12))
                self.claims += 1
                self.look(other, claims)
                for claim in drawn.sample(claims, len(claims)):
                    if drawn.random() < 0.1:
                        other.settle(claim, Retried(timedelta(0), BOOM))
                    else:
                        other.settle(claim, Finished())
        except BaseException as error:
            self.wrong.append(repr(error))
        finally:
            other.connection.close()
            connections.close_all()

    def look(self, other, claims):
        rows = other.connection.execute(
            "SELECT limit_name, limit_key, count(*), min(id),"
            " (SELECT min(w.id) FROM partisan_async_task w WHERE w.status IN ('limited',"
            " 'in_process') AND w.limit_name = t.limit_name AND w.limit_key = t.limit_key)"
            " FROM partisan_async_task t WHERE status = 'in_process' GROUP BY 1, 2"
        ).fetchall()
        if sum(count for name, _, count, *_ in rows if name == "all") > 8:
            self.wrong.append(f"of all: {rows}")
        for name, key, count, first, head in rows:
            if name == "all" and key is not None and count > 3:
                self.wrong.append(f"of a key: {rows}")
            if name == "order" and (count > 1 or first != head):
                self.wrong.append(f"in order: {rows}")


def test_a_storm():
    """No overrun, nothing out of order, no more starts in a window than its rate, nothing lost."""
    limit("all", running_per_key=3, running=8)
    limit("order", in_order=True)
    limit("rate", rates_per_key=[[50, 1], [120, 3]])
    rows = [row(f"k{n % 20}", "all") for n in range(400)] + [row(None, "all") for _ in range(20)]
    rows += [row(f"o{n % 5}", "order", limit_rank=0, priority=n % 7) for n in range(200)]
    rows += [row(f"r{1 + n % 2}", "rate") for n in range(800)]
    storm = Storm()
    threads = [threading.Thread(target=storm.supervise, args=(seed,)) for seed in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

    assert storm.wrong == []
    assert storm.claims > 20
    assert Task.objects.filter(status="in_process").count() == 0
    assert Task.objects.exclude(status="limited").exists()
    for seconds, most in ((1, 50), (3, 120)):
        for key in ("r1", "r2"):
            starts = LimitStart.objects.filter(key=key, per_seconds=seconds).order_by("granule")
            counted = dict(starts.values_list("granule", "count"))
            for granule in counted:
                window = range(granule, granule + GRANULES + 1)
                assert sum(counted.get(each, 0) for each in window) <= most
    assert connection.connection is not None
