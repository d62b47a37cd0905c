"""A row that does not say its limit, of a processor that has one: it waits for it, unstarted.

The worker here learns of the limit by a task; whoever enqueues knows none, as an older release.
"""

from textwrap import dedent

import pytest

from partisan_async import registry, store
from partisan_async.claim import Settlement
from partisan_async.enqueue.run import fetch
from partisan_async.limits import Limit
from partisan_async.models import LimitOverride, Task
from partisan_async.policy import Failed, Limited, PutUnder, decide
from partisan_async.supervisor.storable import reduced
from partisan_async.task_processor import TaskProcessor
from partisan_async.testing import live_supervisor, run_pending
from partisan_async.worker.outcome_fields import fields_of, outcome_of
from partisan_async.worker.wire import Decoder, Done, encode
from tests.conftest import ended, marks, wait_until
from tests.limited import limit
from tests.test_limited_runs import notify
from tests.test_policy import Counters, rules
from tests.test_races import Other
from tests.testapp.partisan_tasks import Nothing, Tell, TellAsync, Write, WriteUnique

pytestmark = pytest.mark.django_db(transaction=True)


def columns(task):
    task.refresh_from_db()
    return task.status, task.limit_name, task.limit_key, task.limit_rank


@pytest.fixture
def learn():
    """Run a supervisor, and have the one worker know limits that the test's process does not."""

    def learn(kinds, key="str(self.args[0])[:1]", **parts):
        limit("partner", **(parts or {"running_per_key": 1}))
        code = f"""
            from partisan_async.limits import Limit
            from tests.testapp import partisan_tasks
            for each in {[kind.__name__ for kind in kinds]}:
                kind = getattr(partisan_tasks, each)
                kind.LIMIT = Limit(name="partner", **{parts or {"running_per_key": 1}})
                kind.limit_key = lambda self: {key}
            answer = 1
        """
        told = Tell(dedent(code)).delay()
        wait_until(lambda: ended(told))

    with live_supervisor(WORKERS_COUNT=1):
        yield learn


class TestOnce:
    @pytest.mark.parametrize("kind", [Write, TellAsync])
    def test_it_runs_under_the_limit_and_nothing_is_counted_twice(self, learn, kind):
        learn([kind])
        task = kind("answer = 2").delay(priority=7)
        assert task.limit_name is None
        wait_until(lambda: ended(task))

        assert columns(task) == ("finished", "partner", "a", 7)
        assert (task.claim_seq, task.tries, len(task.worker_ids), task.errors) == (2, 1, 1, [])

    def test_it_waits_unstarted_while_its_key_is_full(self, learn):
        learn([Write])
        LimitOverride.objects.create(name="partner", key="f", running=0)
        full, free = Write("full").delay(), Write("a").delay()
        wait_until(lambda: ended(free))
        wait_until(lambda: columns(full)[0] == "limited")

        assert columns(full) == ("limited", "partner", "f", 10)
        assert (full.tries, full.worker_ids, full.errors, full.started_at) == (0, [], [], None)
        assert (full.interrupted, full.unrecognised) == (0, 0)
        LimitOverride.objects.all().delete()
        notify(f"limited:{full.pk}")
        wait_until(lambda: ended(full))
        assert sorted(marks()) == ["a", "full"]

    def test_in_order_it_has_its_place_by_its_id(self, learn):
        learn([Write], in_order=True)
        tasks = [Write(f"a {n}").delay(priority=9 - n) for n in range(5)]
        wait_until(lambda: ended(*tasks))

        assert {columns(task)[3] for task in tasks} == {0}

    @pytest.mark.parametrize(
        ("key", "error"),
        [
            ("1 / 0", "Write.limit_key() raised ZeroDivisionError"),
            ("5.0", "What Write.limit_key() returned is of type float"),
            ("'x' * 256", "What Write.limit_key() returned has 256 characters"),
        ],
    )
    def test_what_can_be_no_key_ends_the_task_and_says_why(self, learn, key, error):
        learn([Write], key)
        task = Write("a").delay()
        wait_until(lambda: Task.objects.get(pk=task.pk).status == "error")

        task.refresh_from_db()
        assert error in task.errors[-1]["message"]
        assert task.limit_name is None

    def test_a_limit_that_cannot_be_ends_it_too(self, learn):
        learn([Write], running=0)
        task = Write("a").delay()
        wait_until(lambda: Task.objects.get(pk=task.pk).status == "error")

        task.refresh_from_db()
        assert "Write.LIMIT has running=0" in task.errors[-1]["message"]


class TestRow:
    @pytest.fixture
    def other(self, transactional_db):
        other = Other()
        yield other
        other.connection.close()

    def put(self, other, claim, *, gently=False):
        put = Settlement(claim, PutUnder("x", "k", False), None)
        return other.execute(store.put_under_limits(other.me, [put], gently=gently))

    def test_a_twin_that_came_meanwhile_keeps_the_digest(self, other):
        task = WriteUnique("a").delay()
        (claim,) = other.claim(1)
        twin = WriteUnique("a").delay()

        assert self.put(other, claim, gently=True) == [(task.pk,)]
        assert columns(task) == ("limited", "x", "k", 10)
        assert (task.digest, bool(Task.objects.get(pk=twin.pk).digest)) == (None, True)

    def test_of_a_claim_that_is_lost_nothing_is_written(self, other):
        task = Nothing().delay()
        (claim,) = other.claim(1)

        assert self.put(other, claim._replace(claim_seq=99)) == []
        assert columns(task) == ("in_process", None, None, None)

    def test_a_key_that_the_database_refuses_ends_the_task(self, other):
        Nothing().delay()
        (claim,) = other.claim(1)
        (instead,) = reduced(Settlement(claim, PutUnder("x", "k", False), None), "UTF8")

        assert isinstance(instead.decision, Failed)
        assert "key of its limit" in instead.decision.failure.message


@pytest.mark.parametrize("key", [None, "", "k"])
def test_it_is_told_by_the_worker_and_decided(key):
    outcome = Limited("x", key, in_order=True)
    (frame,) = Decoder().feed(encode(Done(1, 5, False, outcome)))

    assert frame == Done(1, 5, False, outcome)
    name, *values = fields_of(outcome)
    assert outcome_of(name, values) == outcome
    assert decide(outcome, rules(), Counters()) == PutUnder("x", key, in_order=True)


class TestTyped:
    """In the testing kit, which runs what waits for a limit at once."""

    class Pays(TaskProcessor):
        def run(self, partner: str, n: int = 0): ...

        def limit_key(self, partner):
            return partner.upper()

    @pytest.fixture
    def pays(self, monkeypatch):
        monkeypatch.setitem(registry._processors, "Pays", self.Pays)
        return self.Pays

    def test_it_is_asked_with_the_parameters_of_run(self, pays, monkeypatch):
        task = pays("acme", n=3).delay()
        monkeypatch.setattr(pays, "LIMIT", Limit(running=1))
        (ran,) = run_pending()

        assert ran.task.pk == task.pk
        assert columns(task) == ("finished", "Pays", "ACME", 10)

    def test_one_that_does_not_fit_is_deferred_as_ever(self, pays, monkeypatch):
        task = pays("acme").delay()
        fetch("UPDATE partisan_async_task SET arguments = arguments || '{\"args\": [5]}'"
              " RETURNING id")  # fmt: skip
        monkeypatch.setattr(pays, "LIMIT", Limit(running=1))
        run_pending()

        task.refresh_from_db()
        assert (task.unrecognised, task.limit_name, task.tries) == (1, None, 0)
