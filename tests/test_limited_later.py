"""What enqueues where no caller is: ticks, an ON_ERROR, an operator; and which key it has then."""

import uuid
from itertools import pairwise

import pytest
from django.core.checks import run_checks
from django.db import transaction
from django.db.backends.postgresql.base import DatabaseWrapper
from django.utils import timezone

from partisan_async import registry, schedules, steering, store
from partisan_async.claim import Attempt, Settlement
from partisan_async.enqueue.run import fetch
from partisan_async.enqueue.scheduled import Called, made_tick_of, tick_of
from partisan_async.limits import Limit
from partisan_async.models import Schedule, Task
from partisan_async.policy import Failed, Failure
from partisan_async.processor import BaseTaskProcessor
from partisan_async.schedule import Every
from partisan_async.steering.timetable import change_schedule, checked_stored, run_once
from partisan_async.task_processor import TaskProcessor
from partisan_async.testing import live_supervisor
from partisan_async.unique import Unique
from tests import test_ticker, test_timetable
from tests.conftest import ended, marks, wait_until
from tests.test_limited_enqueue import row
from tests.test_limited_wake import listening
from tests.test_races import TTL, Other
from tests.test_ticker import HOURLY
from tests.testapp.partisan_tasks import Fail, Nothing, Tell, Write

pytestmark = pytest.mark.django_db(transaction=True)

LEARN = """
import os, time
from partisan_async.limits import Limit
from tests.testapp.models import Mark
from tests.testapp.partisan_tasks import Write

def run(self):
    self.mark(str(self.args[0]))
    while not os.path.exists({go!r}):
        time.sleep(0.05)

Write.run, Write.LIMIT = run, {limit!r}
Write.limit_key = lambda self: self.args[0] % 2
Mark.objects.create(text="learnt", pid=os.getpid())
while Mark.objects.filter(text="learnt").count() < 3:
    time.sleep(0.05)
answer = 1
"""
"""What each of three workers learns: a ``Write`` with a limit, which waits for a file."""


@pytest.fixture
def made(monkeypatch):
    """Return what makes a processor with this body, and counts how often it was asked."""

    def make(name="Made", base=TaskProcessor, **body):
        def limit_key(self, partner):
            type(self).asked += 1
            return partner

        attributes = {
            "asked": 0,
            "LIMIT": Limit(running_per_key=1),
            "run": lambda self, partner="acme", *rest: None,
            "limit_key": limit_key,
        }
        made = type(name, (base,), attributes | body)
        monkeypatch.setitem(registry._processors, name, made)
        return made

    return make


def rows(**which):
    return [row(task) for task in Task.objects.filter(**which).order_by("pk")]


class TestTicks:
    """Of the code: its processors are asked as a supervisor starts, and not with each tick."""

    EU = Every(seconds=3600, kwargs={"partner": "eu"})

    @pytest.fixture
    def only(self, made, monkeypatch):
        def only(**body):
            processor = made(**body)
            monkeypatch.setattr(registry, "_processors", {"Made": processor})
            return processor

        return only

    def ticked(self, *names):
        host = test_ticker.Host()
        host.turn()
        for name in names:
            test_ticker.late(name)
        host.turn()

    def test_they_wait_for_the_limit_with_the_key_of_their_kwargs(self, only):
        processor = only(SCHEDULE=HOURLY, SCHEDULES={"eu": self.EU}, PRIORITY=4)

        self.ticked("Made", "Made:eu")

        assert sorted(rows()) == [("limited", "Made", "acme", 4), ("limited", "Made", "eu", 4)]
        assert processor.asked == 2  # by the one host that was made
        assert {task.tick is None for task in Task.objects.all()} == {False}

    @pytest.mark.parametrize(
        "body",
        [
            {"SCHEDULE": Every(seconds=3600, skip_while_running=True)},
            {"SCHEDULE": HOURLY, "UNIQUE": Unique(by=(), while_running=True)},
            {"SCHEDULE": HOURLY, "UNIQUE_FOR_PARAMS": False},
            {"SCHEDULE": Every(seconds=3600, catch_up=True)},
        ],
    )
    def test_by_each_statement_of_a_tick(self, only, body):
        only(**body)

        self.ticked("Made")

        assert rows() == [("limited", "Made", "acme", 10)]

    def test_one_that_waits_for_its_limit_is_enough(self, only):
        only(SCHEDULE=HOURLY)

        self.ticked("Made")
        self.ticked("Made")

        assert len(rows()) == 1

    def test_they_are_told_of_by_their_ids(self, only):
        only(SCHEDULE=HOURLY)
        with listening("default") as heard:
            self.ticked("Made")

            assert heard() == [f"limited:{Task.objects.get().pk}"]

    def test_all_that_are_caught_up_with_have_the_key(self, only):
        only(SCHEDULE=Every(seconds=60, catch_up=True), LIMIT=Limit(in_order=True, name="x"))
        host = test_ticker.Host()
        host.turn()
        test_ticker.late("Made", seconds=200)
        host.turn()

        assert set(rows()) == {("limited", "x", "acme", 0)}
        assert len(rows()) >= 3

    def test_without_a_limit_the_statement_knows_none(self, only):
        call = tick_of(only(LIMIT=None, SCHEDULE=HOURLY), HOURLY)
        now = timezone.now()

        assert "limit_" not in store.tick(call, "Made", "x", [now], now).sql

    def test_what_limit_key_raises_there_is_told_by_a_check(self, only):
        def limit_key(self, partner):
            return {"eu": 1}[partner]

        processor = only(SCHEDULES={"us": Every(seconds=60)}, limit_key=limit_key)

        (error,) = (each for each in run_checks() if each.obj is processor)

        assert error.id == "partisan_async.E025"
        assert "Made.limit_key() raised KeyError: 'acme'" in error.msg
        assert error.hint == "Give the schedule kwargs that run() and limit_key() take."

    @pytest.mark.parametrize("limit", [Limit(running=0), Limit(in_order=True, running_per_key=1)])
    def test_a_limit_that_cannot_be_is_told_once(self, only, limit):
        processor = only(SCHEDULE=HOURLY, LIMIT=limit)

        assert len([each for each in run_checks() if each.obj is processor]) == 1


class TestMadeAtRunTime:
    """A supervisor runs no code of the project: the row keeps the key, or who runs a tick asks."""

    def tick(self):
        test_timetable.late("acme")
        test_timetable.Host().turn()
        return Task.objects.latest("pk")

    def test_without_keys_it_waits_for_the_limit(self, made):
        processor = made(LIMIT=Limit(running=1))
        del processor.limit_key
        schedules.create("acme", processor("acme"), HOURLY)

        assert row(self.tick()) == ("limited", "Made", None, 10)

    def test_with_keys_it_has_the_one_that_was_asked_for_as_it_was_made(self, made):
        processor = made(PRIORITY=4)
        schedules.create("acme", processor("bee"), HOURLY)
        assert row(self.tick()) == ("limited", "Made", "bee", 4)

        schedules.create("acme", processor("cat"), HOURLY)
        assert row(self.tick()) == ("limited", "Made", "cat", 4)
        assert processor.asked == 2

    @pytest.mark.parametrize("key", ["", None])
    def test_no_key_is_another_one_than_an_empty_one(self, made, key):
        processor = made(LIMIT=Limit(in_order=True, name="x"), limit_key=lambda self: key)
        schedules.create("acme", processor("acme"), HOURLY)

        assert row(self.tick()) == ("limited", "x", key, 0)

    def test_a_change_of_its_arguments_is_another_call(self, made):
        """As the page of the admin makes it."""
        processor = made()
        schedule = schedules.create("acme", processor("acme"), HOURLY)

        change_schedule(schedule, checked_stored(processor, '{"args":["bee"],"kwargs":{}}'), HOURLY)

        assert row(self.tick()) == ("limited", "Made", "bee", 10)

    def test_one_that_a_release_without_limits_has_changed_has_no_known_key(self, made):
        """It leaves the key of the call before on the row, and writes another ``set_by``."""
        processor = made()
        schedules.create("acme", processor("acme"), HOURLY)
        Schedule.objects.update(arguments='{"args":["bee"],"kwargs":{}}', set_by=uuid.uuid4())

        assert row(self.tick()) == ("new", None, None, None)
        assert Task.objects.get().args == ["bee"]
        assert Schedule.objects.get().limit_key == "acme"

    def test_one_from_before_its_limit_is_enqueued_as_by_those_who_know_none(self, made):
        processor = made(LIMIT=None)
        schedules.create("acme", processor("acme"), HOURLY)
        processor.LIMIT = Limit(running_per_key=1)

        assert row(self.tick()) == ("new", None, None, None)
        assert processor.asked == 0

    def test_one_from_before_its_key_likewise(self, made):
        processor = made(LIMIT=Limit(running=1))
        limit_key = processor.limit_key
        del processor.limit_key
        schedules.create("acme", processor("acme"), HOURLY)
        processor.limit_key = limit_key

        assert row(self.tick()) == ("new", None, None, None)

    def test_without_its_limit_it_has_none(self, made):
        processor = made()
        schedules.create("acme", processor("acme"), HOURLY)
        processor.LIMIT = None

        assert row(self.tick()) == ("new", None, None, None)

    def test_it_runs_under_its_limit(self, monkeypatch):
        """The whole way, and no supervisor asks for its key again."""
        monkeypatch.setattr(Write, "LIMIT", Limit(running_per_key=1))
        monkeypatch.setattr(Write, "limit_key", lambda self: str(self.args[0]), raising=False)
        schedules.create("acme", Write("acme"), Every(seconds=1))
        monkeypatch.setattr(Write, "limit_key", lambda self: 1 / 0)
        with live_supervisor(WORKERS_COUNT=1):
            wait_until(lambda: Task.objects.filter(status="finished").count() >= 2)

        assert set(rows(status="finished")) == {("finished", "Write", "acme", 10)}

    def test_it_is_refused_where_it_is_made_if_it_can_have_no_key(self, made):
        processor = made(limit_key=lambda self: 5.0)

        with pytest.raises(TypeError, match=r"What Made.limit_key\(\) returned is of type float"):
            schedules.create("acme", processor("acme"), HOURLY)
        with pytest.raises(TypeError, match=r"What Made.limit_key\(\) returned is of type float"):
            checked_stored(processor, '{"args":["acme"],"kwargs":{}}')
        assert Schedule.objects.count() == 0

    def test_run_once_asks_as_delay_does(self, made):
        made_one = schedules.create("acme", made()("bee"), HOURLY)

        assert row(run_once(made_one)) == ("limited", "Made", "bee", 10)

    def test_one_of_the_code_run_once_asks_too(self, made):
        processor = made(SCHEDULES={"eu": TestTicks.EU})
        known = Schedule.objects.create(
            processor_class="Made:eu", processor="Made", queue_name="default", set_by=uuid.uuid4()
        )

        assert row(run_once(known)) == ("limited", "Made", "eu", 10)
        assert processor.asked == 1

    def test_a_limit_that_cannot_be_does_not_tick(self, made):
        processor = made(LIMIT=Limit(running=0))
        del processor.limit_key

        with pytest.raises(TypeError, match=r"Made.LIMIT has running=0"):
            made_tick_of(processor, Called('{"args":[],"kwargs":{}}', None), "default", HOURLY)


class TestOnError:
    """Its call is made in a supervisor, and its one argument put in by the statement."""

    @pytest.fixture
    def told(self, made):
        told = made("TellThem", LIMIT=Limit(running=1, name="mail"), PRIORITY=3)
        del told.limit_key
        return told

    def fail(self, *on_errors):
        tasks = [Nothing(n).delay() for n, _ in enumerate(on_errors)]
        other = Other()
        other.connection.close()
        found = store.claims(fetch(*store.claim(other.me, "default", 10, TTL)))
        failed = Failed(Failure("a.B", "boom"))
        settlements = [
            Settlement(
                claim, failed, Attempt(0.1, "w"), on_error=on_error and on_error._call_on_error()
            )
            for claim, on_error in zip(found, on_errors, strict=True)
        ]
        assert len(fetch(*store.settle(other.me, settlements))) == len(tasks)
        return tasks

    def test_it_waits_for_its_limit(self, told):
        (task,) = self.fail(told)

        (call,) = Task.objects.filter(processor_class="TellThem")
        assert row(call) == ("limited", "mail", None, 3)
        assert call.args == [task.pk]

    def test_beside_others_without_one(self, told, made):
        plain = made("Plain", LIMIT=None)
        self.fail(told, None, plain, told)

        assert rows(processor_class="TellThem") == [("limited", "mail", None, 3)] * 2
        assert rows(processor_class="Plain") == [("new", None, None, None)]

    def test_with_keys_it_is_enqueued_as_by_those_who_know_no_limits(self, made):
        keyed = made("Keyed")
        self.fail(keyed)

        assert rows(processor_class="Keyed") == [("new", None, None, None)]
        assert keyed.asked == 0

    def test_it_is_told_of_by_its_id(self, monkeypatch):
        monkeypatch.setattr(Write, "LIMIT", Limit(running=1, name="mail"))
        monkeypatch.setattr(Fail, "ON_ERROR", Write)
        with live_supervisor(WORKERS_COUNT=1), listening("default") as heard:
            failed = Fail("x").delay()
            wait_until(lambda: Task.objects.filter(processor_class="Write", status="finished"))

            told = Task.objects.get(processor_class="Write")
            assert f"limited:{told.pk}" in heard()
        assert (told.limit_name, told.args) == ("mail", [failed.pk])

    @pytest.mark.parametrize("limit", [Limit(running_per_key=1), Limit(in_order=True)])
    def test_with_keys_it_runs_under_its_limit(self, monkeypatch, tmp_path, limit):
        """The worker that gets it asks for its key, of the id that it is called with."""
        go = tmp_path / "go"
        monkeypatch.setattr(Write, "LIMIT", limit)
        monkeypatch.setattr(Write, "limit_key", lambda self: 1 / 0, raising=False)
        monkeypatch.setattr(Fail, "ON_ERROR", Write)
        calls = Task.objects.filter(processor_class="Write")
        with live_supervisor(WORKERS_COUNT=3):
            learnt = [Tell(LEARN.format(limit=limit, go=str(go))).delay() for _ in range(3)]
            wait_until(lambda: ended(*learnt))
            # In one statement: their ids follow each other, and half of them are even.
            failed = Fail.bulk_delay([Fail("ValueError") for _ in range(6)])
            wait_until(lambda: len(calls.filter(status="limited")) == 4 and len(marks()) == 5)
            running = {int(text) % 2 for text in marks() if text != "learnt"}

            go.touch()
            wait_until(lambda: calls.filter(status="finished").count() == 6)

        assert running == {0, 1}
        assert {int(text) for text in marks() if text != "learnt"} == {each.pk for each in failed}
        rank = 0 if limit.in_order else 10
        for key in "01":
            own = calls.filter(limit_key=key)
            assert {row(call) for call in own} == {("finished", "Write", key, rank)}
            spans = sorted(own.values_list("started_at", "finished_at"))
            assert len(spans) == 3
            assert all(end <= start for (_, end), (start, _) in pairwise(spans))


class TestAgain:
    """What an operator has run again, or now, has an earlier id: the beat would not find it."""

    @pytest.mark.parametrize(
        ("do", "columns"),
        [
            (steering.retry, {"status": "error", "finished_at": timezone.now()}),
            (steering.run_now, {"status": "scheduled"}),
        ],
    )
    def test_it_is_told_of_even_if_he_dies_with_the_commit(self, made, do, columns, monkeypatch):
        tasks = [made()(n).delay() for n in "ab"]
        Task.objects.update(**columns)
        monkeypatch.setattr(DatabaseWrapper, "run_and_clear_commit_hooks", lambda self: None)
        with listening("default") as heard:
            with transaction.atomic():
                do([tasks[0].pk])
                assert heard() == []
            assert heard() == [f"limited:{tasks[0].pk}"]

            do([tasks[1].pk])
            assert heard() == [f"limited:{tasks[1].pk}"]
        assert {task.status for task in Task.objects.all()} == {"limited"}

    def test_one_that_is_taken_back_is_not_told_of(self, made):
        task = made()("a").delay()
        Task.objects.update(status="scheduled")
        with listening("default") as heard:
            with transaction.atomic(), transaction.atomic():
                steering.run_now([task.pk])
                transaction.set_rollback(True)
            assert heard() == []
        assert Task.objects.get().status == "scheduled"


class TestOtherArguments:
    """Given by an operator to a task that failed: it is another call, with another key."""

    def retried(self, task, to):
        Task.objects.filter(pk=task.pk).update(status="error", finished_at=timezone.now())
        steering.retry([task.pk], arguments={"args": [to], "kwargs": {}})
        return Task.objects.get(pk=task.pk)

    def test_the_key_is_asked_for_anew(self, made):
        task = made()("acme").delay(priority=3)

        assert row(self.retried(task, "bee")) == ("limited", "Made", "bee", 3)

    def test_the_limit_is_the_one_that_holds_now(self, made, monkeypatch):
        processor = made()
        task = processor("acme").delay(priority=3)

        monkeypatch.setattr(processor, "LIMIT", Limit(in_order=True, name="orders"))
        assert row(self.retried(task, "bee")) == ("limited", "orders", "bee", 0)
        monkeypatch.setattr(processor, "LIMIT", None)
        assert row(self.retried(task, "cat")) == ("new", None, None, None)
        monkeypatch.setattr(processor, "LIMIT", Limit(running=1))
        assert row(self.retried(task, "dog")) == ("limited", "Made", "dog", 3)

    def test_without_a_limit_nobody_is_asked(self, made):
        """A method of that name is the project's own."""
        task = made(LIMIT=None, limit_key=lambda self, nobody: 1 / 0)("acme").delay()

        assert row(self.retried(task, "bee")) == ("new", None, None, None)

    def test_of_an_unknown_processor_it_stays(self, made, monkeypatch):
        task = made()("acme").delay(priority=3)
        monkeypatch.delitem(registry._processors, "Made")

        assert row(self.retried(task, "bee")) == ("limited", "Made", "acme", 3)

    def test_a_key_that_cannot_be_changes_nothing(self, made):
        processor = made(limit_key=lambda self, partner: partner if partner == "acme" else 5.0)
        task = processor("acme").delay()

        with pytest.raises(TypeError, match="returned is of type float"):
            self.retried(task, "bee")
        (left,) = Task.objects.all()
        assert (left.status, left.args, left.limit_key) == ("error", ["acme"], "acme")

    def test_it_is_told_by_its_id(self, made):
        task = made()("acme").delay()
        with listening("default") as heard:
            self.retried(task, "bee")

            assert heard() == [f"limited:{task.pk}"]

    def test_one_without_a_limit_is_told_as_ever(self):
        task = Nothing(1).delay()
        with listening("default") as heard:
            assert row(self.retried(task, 2)) == ("new", None, None, None)

            assert heard() == ["new"]

    def test_an_untyped_one_is_made_by_its_own_init(self, made):
        def init(self, *args):
            BaseTaskProcessor.__init__(self, *args)
            self.partner = args[0]

        processor = made(
            base=BaseTaskProcessor,
            __init__=init,
            run=lambda self: None,
            limit_key=lambda self: self.partner,
        )
        task = processor("acme").delay()

        assert self.retried(task, "bee").limit_key == "bee"
