"""Schedules that are made at run time: made, changed and deleted while supervisors tick."""

import asyncio
import json
import threading
import time
import uuid
from datetime import UTC, timedelta
from itertools import pairwise

import pytest
from django.db import connection, transaction
from django.utils import timezone

from partisan_async import schedules, steering, store
from partisan_async.exceptions import ArgumentsTooLarge, ProcessorClassNotFound
from partisan_async.models import Schedule, Task
from partisan_async.processor import BaseTaskProcessor
from partisan_async.schedule import Cron, Every
from partisan_async.steering import timetable as making
from partisan_async.store import Held, Made
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.sight import Lookout
from partisan_async.supervisor.timetable import ASIDE_SECONDS, AT_ONCE, Timetable
from partisan_async.task_processor import TaskProcessor
from partisan_async.testing import live_supervisor
from tests import test_ticker
from tests.conftest import marks, wait_until
from tests.test_ticker import HOURLY, ONLY_NOTIFY, TTL, ticks
from tests.testapp.partisan_tasks import Write

pytestmark = pytest.mark.django_db(transaction=True)

only = test_ticker.only


@pytest.fixture
def report(only):
    """A processor without a schedule in the code."""
    (report,) = only(Report=None).values()
    return report


class Host:
    """A timetable as a supervisor has it, and the beat that tells it what there is."""

    def __init__(self, queue_name="default"):
        self.me = uuid.uuid4()
        self.queue_name = queue_name
        self.first = []
        self._connection = Connection("default", "timetable of a test", patience=TTL)
        self.timetable = Timetable(
            queue_name, self._connection, ttl=TTL, on_first=lambda: self.first.append(True)
        )

    def turn(self):
        """Beat, do all that is to be done, and return in how many seconds it looks again."""

        async def turn():
            try:
                await self.beat()
                while (seconds := await self.timetable.turn()) is not None and seconds <= 0:
                    pass
                return seconds
            finally:
                await self._connection.close()

        return asyncio.run(turn())

    async def beat(self):
        lookout = Lookout()
        statement = store.beat(
            [store.Beat(self.me, self.queue_name)],
            hostname="here",
            process=json.dumps(lookout.process),
            ttl=TTL,
        )
        (seen,) = await self._connection.execute(statement)
        sight = lookout.read(store.Seen(*seen))
        self.timetable.on_sight(sight.timetable_seconds)
        return sight.timetable_seconds


def late(name="acme", *, seconds=1.0):
    """Have a schedule's next tick been due for so long; return when that was."""
    due = timezone.now() - timedelta(seconds=seconds)
    assert Schedule.objects.filter(pk=f":{name}").update(next_tick=due)
    return due


def row(name="acme"):
    return Schedule.objects.get(pk=f":{name}")


def calls():
    return [(task.processor_class, task.args, task.tick) for task in Task.objects.order_by("id")]


class TestMade:
    def test_it_has_a_row_and_ticks_with_its_arguments(self, report):
        made = schedules.create("acme", report("acme", size=3), HOURLY)

        assert made == row()
        assert (made.pk, made.processor, made.queue_name) == (":acme", "Report", "default")
        assert (made.schedule, made.arguments) == (
            "every 3600 s",
            '{"args":["acme"],"kwargs":{"size":3}}',
        )
        assert timedelta(minutes=59) < made.next_tick - timezone.now() <= timedelta(hours=1)
        due = late()
        Host().turn()

        task = Task.objects.get()
        assert (task.processor_class, task.args, task.kwargs) == ("Report", ["acme"], {"size": 3})
        assert (task.tick, task.arguments["schedule"]) == (due, ":acme")
        assert bytes(task.digest) == bytes(report("acme", size=3).delay().digest)
        assert (row().last_tick, row().next_tick) == (due, due + timedelta(hours=1))

    def test_a_string_is_a_cron_expression_in_the_zone_that_holds_now(self, report, settings):
        """A setting that is changed later moves no customer's report."""
        settings.TIME_ZONE = "Europe/Berlin"
        schedules.create("acme", report(), "0 7 * * *")

        settings.TIME_ZONE = "Asia/Tokyo"

        assert row().schedule == "0 7 * * * Europe/Berlin"
        assert row().rule["time_zone"] == "Europe/Berlin"
        due = late()
        Host().turn()
        assert row().next_tick.astimezone(UTC).hour in (5, 6)
        assert [tick for *_, tick in calls()] == [due]

    def test_without_use_tz_it_is_the_same(self, report, settings):
        """Django reads naive moments there, and a schedule reckons with aware ones."""
        settings.USE_TZ = False
        settings.TIME_ZONE = "Asia/Tokyo"
        connection.close()
        try:
            for when in ("*/5 * * * *", HOURLY, Every(seconds=60)):
                schedules.create("acme", report(), when)
            read = row().next_tick
            steering.switch_off([":acme"])
        finally:
            settings.USE_TZ = True
            connection.close()

        assert timezone.is_naive(read)
        zone = Cron("* * * * *", time_zone="Asia/Tokyo").zone
        left = read.replace(tzinfo=zone) - timezone.now()
        assert timedelta(0) < left <= timedelta(seconds=60)

    def test_it_is_sought_by_nobody_before_the_beat_sees_one(self, report):
        """A queue without any makes no statement more."""
        untouched = None
        timetable = Timetable("default", untouched, ttl=TTL, on_first=pytest.fail)

        timetable.on_sight(None)

        assert asyncio.run(timetable.turn()) is None

    @pytest.mark.parametrize("why", ["none", "other queue", "switched off", "in the code"])
    def test_the_beat_sees_none_where_there_is_none(self, report, why):
        if why == "other queue":
            report.QUEUE_NAME = "elsewhere"
        if why == "in the code":
            Schedule.objects.create(
                processor_class="Report", queue_name="default", schedule="x", set_by=uuid.uuid4()
            )
        elif why != "none":
            schedules.create("acme", report(), HOURLY)
        if why == "switched off":
            steering.switch_off([":acme"])
        host = Host()

        assert host.turn() is None
        assert host.first == []

    def test_the_beat_sees_when_the_first_is_due(self, report):
        schedules.create("acme", report(), HOURLY)
        schedules.create("later", report(), HOURLY)
        late(seconds=-100)
        host = Host()

        assert 0 < host.turn() <= ASIDE_SECONDS
        assert host.first == [True]
        late(seconds=-5)
        assert 4 < host.turn() < 5

    @pytest.mark.parametrize(
        ("due_seconds", "hurries"), [(-5, True), (20, True), (99.99, False), (200, False)]
    )
    def test_one_that_is_due_earlier_than_what_is_known_hurries_it(self, due_seconds, hurries):
        """And the same one does not, at each beat."""
        timetable = Host().timetable
        timetable.on_sight(100)
        turns = timetable._turns
        turns._hurry.clear()
        turns.at = time.monotonic() + 100

        timetable.on_sight(due_seconds)

        assert turns._hurry.is_set() == hurries

    def test_in_a_transaction_it_is_there_with_the_commit(self, report):
        with pytest.raises(RuntimeError), transaction.atomic():
            schedules.create("acme", report(), HOURLY)
            raise RuntimeError
        assert not Schedule.objects.exists()

        with transaction.atomic():
            schedules.create("acme", report(), HOURLY)
        assert schedules.delete("acme")
        with pytest.raises(RuntimeError), transaction.atomic():
            schedules.create("acme", report(), HOURLY)
            assert schedules.delete("acme")
            schedules.create("acme", report(), HOURLY)
            raise RuntimeError
        assert not Schedule.objects.exists()

    def test_its_twins_do_the_same_from_async_code(self, report):
        async def there_and_back():
            made = await schedules.acreate("acme", report(1), HOURLY)
            return made.pk, await schedules.adelete("acme"), await schedules.adelete("acme")

        assert asyncio.run(there_and_back()) == (":acme", True, False)
        assert schedules.acreate.__name__ == "acreate"

    def test_where_calls_are_not_unique_each_tick_adds_one(self, report):
        report.UNIQUE_FOR_PARAMS = False
        schedules.create("acme", report(), HOURLY)
        report().delay()
        late()

        Host().turn()

        assert [task.digest for task in Task.objects.all()] == [None, None]

    def test_an_identical_call_that_waits_takes_its_place(self, report):
        schedules.create("acme", report("a"), HOURLY)
        report("a").delay(), report("b").delay()
        late()

        Host().turn()

        assert Task.objects.count() == 2


def test_a_queue_with_one_that_nobody_serves_is_told_of(report):
    """Nothing waits there, and nothing will: nobody ticks."""

    def unserved():
        with connection.cursor() as cursor:
            cursor.execute(*store.unserved(TTL))
            return cursor.fetchall()

    assert unserved() == []
    schedules.create("acme", report(), HOURLY)
    assert unserved() == [("default",)]
    steering.switch_off([":acme"])
    assert unserved() == []


class Typed(TaskProcessor):
    def run(self, region: str, *, day: int = 0) -> None:
        pass


class Unregistered(BaseTaskProcessor):
    def run(self):
        pass


class TestRefused:
    """A wrong call raises where it is made, and nothing is written."""

    @pytest.fixture(autouse=True)
    def _nothing_is_written(self, only, monkeypatch):
        from partisan_async import registry

        only(Report=None)
        registry.register(Typed)
        yield
        assert not Schedule.objects.exists()

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            (5, "text, such as 'acme', and not 5 of type int"),
            ("", "has 0 characters; it must have 1 to 254"),
            ("x" * 255, "has 255 characters; it must have 1 to 254"),
            ("a\x00b", "must be text that can be printed"),
            ("\ud800", "must be text that can be printed"),
            (" acme", "without blanks around it"),
        ],
    )
    def test_a_name_that_cannot_be(self, name, said):
        for call in (
            lambda: schedules.create(name, Typed("eu"), HOURLY),
            lambda: schedules.delete(name),
        ):
            with pytest.raises((TypeError, ValueError), match=said):
                call()

    @pytest.mark.parametrize(
        ("call", "error", "said"),
        [
            (Typed, TypeError, "Typed is a class; make a call first"),
            (print, TypeError, "enqueues the call of a processor"),
            (None, TypeError, "enqueues the call of a processor"),
            (Typed(), TypeError, "region is missing"),
            (Typed(5), TypeError, "region"),
            (Typed("eu", size=1), TypeError, "no parameter size"),
            (Typed("eu\x00"), ValueError, "NUL"),
            (Typed("x" * 2**16), ArgumentsTooLarge, "may be 65,536"),
            (Unregistered(), ProcessorClassNotFound, "Unregistered"),
        ],
    )
    def test_a_call_that_cannot_be(self, call, error, said):
        with pytest.raises(error, match=said):
            schedules.create("acme", call, HOURLY)

    @pytest.mark.parametrize(
        ("when", "said"),
        [
            (None, "The schedule is None; it must be a cron expression"),
            (60, "The schedule is 60; it must be a cron expression"),
            ("61 * * * *", "Bad minute"),
            (Cron("* * * * *", kwargs={"region": "eu"}), "pass them in the call"),
        ],
    )
    def test_a_schedule_that_cannot_be(self, when, said):
        with pytest.raises((TypeError, ValueError), match=said):
            schedules.create("acme", Typed("eu"), when)

    def test_one_that_is_there_stays_as_it_is(self):
        before = schedules.create("acme", Typed("eu"), HOURLY)
        for wrong in (
            lambda: schedules.create("acme", Typed(5), "0 7 * * *"),
            lambda: schedules.create("acme", Typed("us"), "61 * * * *"),
        ):
            with pytest.raises((TypeError, ValueError)):
                wrong()

        assert Schedule.objects.values().get() == Schedule.objects.filter(pk=before.pk).values()[0]
        assert row().set_by == before.set_by
        schedules.delete("acme")


class TestChanged:
    def test_other_arguments_leave_the_next_tick_where_it_was(self, report):
        before = schedules.create("acme", report(1), HOURLY)

        after = schedules.create("acme", report(2), HOURLY)

        assert after.next_tick == before.next_tick
        assert after.set_by != before.set_by
        due = late()
        Host().turn()
        assert calls() == [("Report", [2], due)]

    def test_another_time_counts_from_now(self, report):
        schedules.create("acme", report(), HOURLY)

        after = schedules.create("acme", report(), Every(seconds=60))

        assert timedelta(0) < after.next_tick - timezone.now() <= timedelta(seconds=60)

    def test_a_tick_that_is_due_and_not_taken_is_not_lost(self, report):
        """It was promised before the change; it comes with the new call."""
        schedules.create("acme", report(1), HOURLY)
        due = late()
        schedules.create("acme", report(2), Every(seconds=60))

        Host().turn()

        assert calls() == [("Report", [2], due)]
        assert row().next_tick == due + timedelta(seconds=60)

    def test_a_tick_that_was_taken_does_not_come_again(self, report):
        """Whoever looked at the clock before it, and waited for the row."""
        schedules.create("acme", report(), HOURLY)
        now = timezone.now()
        last = now + timedelta(seconds=1)
        rule = Cron("* * * * * *")
        held = Held(now, "every 3600 s", now + timedelta(hours=1), last)
        made = Made(":acme", "default", "Report", "{}", str(rule), "{}", uuid.uuid4())

        assert making._first_tick(held, made, rule) > last

    def test_switched_off_it_stays_off(self, report):
        schedules.create("acme", report(), HOURLY)
        steering.switch_off([":acme"])

        schedules.create("acme", report(), "0 7 * * *")

        assert (row().enabled, row().next_tick) == (False, None)

    def test_it_may_be_of_another_processor_and_queue(self, only):
        report, other = only(Report=None, Other=None).values()
        other.QUEUE_NAME = "elsewhere"
        schedules.create("acme", report(), HOURLY)
        schedules.create("acme", other(), HOURLY)
        late()

        assert Host().turn() is None
        Host("elsewhere").turn()

        assert [task.processor_class for task in Task.objects.all()] == ["Other"]

    def test_who_has_seen_it_before_does_not_tick_it(self, report):
        """Its arguments are others by now, though its next tick is the same."""
        schedules.create("acme", report(1), HOURLY)
        due = late()
        before = row()
        schedules.create("acme", report(2), HOURLY)
        from partisan_async.enqueue.scheduled import Called, made_tick_of

        call = made_tick_of(report, Called(before.arguments, None), "default", HOURLY)
        statement = store.tick(
            *(call, ":acme", "every 3600 s", [due], due + timedelta(hours=1)),
            told=":acme",
            made_as=before.set_by,
        )
        with connection.cursor() as cursor:
            cursor.execute(*statement)
            ((ticked, ids),) = cursor.fetchall()

        assert (ticked, ids) == (False, None)
        assert not Task.objects.exists()

    def test_a_change_that_is_not_committed_holds_up_no_other(self, report):
        schedules.create("acme", report(1), HOURLY)
        schedules.create("other", report(2), HOURLY)
        late(), late("other")
        host = Host()
        with transaction.atomic():
            schedules.create("acme", report(3), HOURLY)
            thread = threading.Thread(target=host.turn)
            thread.start()
            thread.join()
        assert [args for _, args, _ in calls()] == [[2]]
        time.sleep(1.1)  # what it passes over, it passes over for a second

        host.turn()

        assert [args for _, args, _ in calls()] == [[2], [3]]


class TestDeleted:
    def test_it_ticks_no_more_and_what_it_has_enqueued_stays(self, report):
        schedules.create("acme", report(), HOURLY)
        late()
        Host().turn()
        late()

        assert schedules.delete("acme")
        Host().turn()

        assert Task.objects.count() == 1
        assert not schedules.delete("acme")

    def test_one_of_the_code_is_not_deleted_by_that(self, report):
        Schedule.objects.create(
            processor_class=":acme", queue_name="default", schedule="x", set_by=uuid.uuid4()
        )

        assert not schedules.delete("acme")
        assert Schedule.objects.exists()

    def test_switched_off_and_on_it_counts_from_then(self, report):
        schedules.create("acme", report(), Every(seconds=60, catch_up=True))
        late(seconds=3600)
        assert steering.switch_off([":acme"]) == [":acme"]
        assert Host().turn() is None
        assert steering.switch_on([":acme"]) == [":acme"]

        Host().turn()

        assert not Task.objects.exists()
        assert timedelta(0) < row().next_tick - timezone.now() <= timedelta(seconds=60)


class TestThatCannotTick:
    """One that cannot be ticked here is said once, and holds up no other."""

    @pytest.mark.parametrize(
        ("column", "value", "said"),
        [
            ("processor", "Gone", "Gone"),
            ("processor", None, "Processor class ''"),
            ("rule", None, "None is no rule"),
            ("rule", {"every": "x", "catch_up": False, "skip_while_running": False}, "seconds='x'"),
            ("schedule", "every 9 s", "and its schedule every 9 s"),
        ],
    )
    def test_the_others_tick(self, report, caplog, column, value, said):
        for number in range(AT_ONCE + 2):
            schedules.create(f"odd {number}", report(), HOURLY)
            late(f"odd {number}", seconds=3600)
        Schedule.objects.update(**{column: value})
        schedules.create("sound", report("sound"), HOURLY)
        due = late("sound")
        host = Host()

        host.turn()

        assert calls() == [("Report", ["sound"], due)]
        lines = [each for each in caplog.messages if "not ticked here: schedule :odd 1:" in each]
        assert len(lines) == 1
        assert said in lines[0]
        host.turn()
        assert len(caplog.messages) == AT_ONCE + 2

    def test_arguments_that_are_no_json_are_its_own_trouble(self, report, caplog):
        schedules.create("odd", report(), HOURLY)
        schedules.create("sound", report("sound"), HOURLY)
        Schedule.objects.filter(pk=":odd").update(arguments="{")
        late("odd"), late("sound")

        Host().turn()

        assert [args for _, args, _ in calls()] == [["sound"]]
        assert "the tick of :odd failed" in caplog.text

    @pytest.mark.parametrize("moment", ["infinity", "-infinity", "4713-01-01 BC", "20000-01-01"])
    def test_a_tick_beyond_all_clocks_is_left_alone(self, report, moment):
        """Somebody set it by hand, and means it; the others tick."""
        schedules.create("odd", report(), HOURLY)
        schedules.create("sound", report("sound"), HOURLY)
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE partisan_async_schedule SET next_tick = %s WHERE processor_class = ':odd'",
                [moment],
            )
            due = late("sound")
            Host().turn()
            cursor.execute(
                "SELECT next_tick = %s::timestamptz FROM partisan_async_schedule"
                " WHERE processor_class = ':odd'",
                [moment],
            )
            assert cursor.fetchall() == [(True,)]

        assert calls() == [("Report", ["sound"], due)]

    def test_what_a_clock_that_was_ahead_set_too_far_is_moved_up(self, report):
        """Of more than one look reads; each in the course of time."""
        for number in range(2 * AT_ONCE + 1):
            schedules.create(f"{number:02}", report(), HOURLY)
        Schedule.objects.update(next_tick=timezone.now() + timedelta(days=365))
        host = Host()

        for _ in range(4):
            host.timetable._look_at = 0.0  # as half a minute later
            host.turn()

        limit = timezone.now() + timedelta(hours=1)
        assert not Schedule.objects.filter(next_tick__gt=limit).exists()


class TestWhileTwoTick:
    """Whatever is made, changed and deleted meanwhile: no tick is lost, and none comes twice."""

    SECONDS = 6.0
    STEP = timedelta(seconds=0.1)

    def test_every_tick_between_comes_once(self, report):
        """Each time that it is made, it goes on until it is deleted, with the call of then."""
        end = threading.Event()
        hosts = [threading.Thread(target=self.tick, args=[end]) for _ in range(2)]
        for host in hosts:
            host.start()
        told, number = [], 0
        begun = time.monotonic()
        try:
            while time.monotonic() - begun < self.SECONDS:
                number += 1
                name = f"{number}"
                every = Every(seconds=0.1, catch_up=True)
                made = schedules.create(name, report(name, 0), every)
                for change in range(1, 6):
                    time.sleep(0.07)
                    schedules.create(name, report(name, change), every)
                time.sleep(0.11)
                last = self.deleted(name)
                told.append((name, made.next_tick, last))
        finally:
            end.set()
            for host in hosts:
                host.join()

        assert len(told) > 5
        for name, first, last in told:
            found = [
                (task.tick, task.args[1])
                for task in Task.objects.order_by("execute_after", "id")
                if task.args[0] == name
            ]
            taken = [tick for tick, _ in found]
            assert taken[:1] == [first]
            assert {after - before for before, after in pairwise(taken)} <= {self.STEP}
            assert taken[-1] == last, "what was taken before it was deleted, and nothing after"
            changes = [change for _, change in found]
            assert changes == sorted(changes), "with the call that held when it was taken"

    def tick(self, end):
        async def tick():
            host = Host()
            while not end.is_set():
                await host.beat()
                await host.timetable.turn()
                await asyncio.sleep(0.01)
            await host._connection.close()

        asyncio.run(tick())
        connection.close()

    def deleted(self, name):
        """Delete it; return the last tick that it had by then."""
        with transaction.atomic():
            last = Schedule.objects.select_for_update().get(pk=f":{name}").last_tick
            assert schedules.delete(name)
        return last


class TestLive:
    def test_made_it_ticks_at_once_and_deleted_no_more(self):
        """Neither a look nor a poll nor a beat is due for long."""
        with live_supervisor(**ONLY_NOTIFY) as supervisor:
            wait_until(supervisor.parts.wakeup.proven.is_set)
            schedules.create("acme", Write("acme"), Every(seconds=0.2))
            wait_until(lambda: marks().count("acme") > 2)
            schedules.create("acme", Write("other"), Every(seconds=0.2))
            wait_until(lambda: marks().count("other") > 2)
            schedules.delete("acme")
            wait_until(lambda: not supervisor.parts.timetable.has_any)

        found = ticks()
        assert len(set(found)) == len(found)
        assert {after - before for before, after in pairwise(sorted(found))} == {
            timedelta(seconds=0.2)
        }

    def test_without_notify_the_next_beat_sees_it(self):
        with live_supervisor(listen=False, beat_seconds=0.2, WORKERS_COUNT=1):
            schedules.create("acme", Write("acme"), Every(seconds=0.2))
            wait_until(marks)

    def test_a_queue_without_any_makes_no_statement_more(self, monkeypatch, caplog):
        """As many statements as before there were such schedules: the beat's, and no other."""
        made = []
        execute = Connection.execute

        async def noting(self, statement):
            made.append(statement.sql)
            return await execute(self, statement)

        monkeypatch.setattr(Connection, "execute", noting)
        schedules.create("there", Write("there"), HOURLY)
        Schedule.objects.update(queue_name="elsewhere")
        with live_supervisor(beat_seconds=0.1, WORKERS_COUNT=1) as supervisor:

            def beats():
                return [sql for sql in made if "INSERT INTO partisan_async_supervisor" in sql]

            task = Write("x").delay()
            wait_until(lambda: "x" in marks() and len(beats()) > 20)
            assert task.pk
            assert not supervisor.parts.successes._watches

        assert not [
            sql for sql in made if "partisan_async_schedule" in sql and sql not in set(beats())
        ]
