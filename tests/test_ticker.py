"""Ticks become tasks, each once, whoever looks and whatever lies between."""

import asyncio
import logging
import threading
import uuid
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from django.db import connection, transaction
from django.utils import timezone

from partisan_async import registry, steering, store
from partisan_async.exceptions import PostponeTask
from partisan_async.models import Schedule, Supervisor, Task
from partisan_async.processor import BaseTaskProcessor
from partisan_async.schedule import Cron, Every
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.ticker import AGAIN_SECONDS, LOOK_EVERY_SECONDS, Ticker, tick_of
from partisan_async.testing import live_supervisor, perform, run_pending
from tests.conftest import ended, marks, wait_until
from tests.site_rules import refusal
from tests.testapp.partisan_tasks import Tick

pytestmark = pytest.mark.django_db(transaction=True)

TTL = timedelta(seconds=30)
HOURLY = Every(seconds=3600)


@pytest.fixture
def only(monkeypatch):
    """Have exactly these schedules in the code: by their processors' names, in one queue."""

    def only(queue_name="default", **schedules):
        processors = {}
        for name, schedule in schedules.items():
            body = {"SCHEDULE": schedule, "QUEUE_NAME": queue_name, "run": lambda self: None}
            processors[name] = type(name, (BaseTaskProcessor,), body)
        monkeypatch.setattr(registry, "_processors", processors)
        return processors

    return only


class Host:
    """A ticker as a supervisor has it, with that one's row, and the code as it is now."""

    def __init__(self, queue_name="default"):
        self.me = uuid.uuid4()
        self.queue_name = queue_name
        self.beat()
        self._connection = Connection("default", "ticks of a test", patience=TTL)
        self.ticker = Ticker(self.me, queue_name, self._connection, ttl=TTL)

    def beat(self):
        Supervisor.objects.update_or_create(
            pk=self.me,
            defaults={
                "hostname": "here",
                "process": {},
                "queue_name": self.queue_name,
                "last_seen_at": timezone.now(),
            },
        )

    def die(self):
        Supervisor.objects.filter(pk=self.me).update(
            last_seen_at=timezone.now() - timedelta(minutes=5)
        )

    def turn(self):
        """Do all that is to be done, and return in how many seconds it looks again."""

        async def turn():
            try:
                while not (seconds := await self.ticker.turn()):
                    pass
                return seconds
            finally:
                await self._connection.close()

        return asyncio.run(turn())


def late(name="Report", *, seconds=1.0):
    """Have a processor's next tick been due for so long; return when that was."""
    due = timezone.now() - timedelta(seconds=seconds)
    assert Schedule.objects.filter(pk=name).update(next_tick=due)
    return due


def ticks():
    return [task.tick for task in Task.objects.order_by("id")]


def near(moment, **delta):
    return abs(timezone.now() + timedelta(**delta) - moment) < timedelta(seconds=20)


class TestRegistered:
    def test_the_first_tick_counts_from_there(self, only):
        only(Report=HOURLY)

        seconds = Host().turn()

        schedule = Schedule.objects.get()
        assert (schedule.pk, schedule.schedule) == ("Report", "every 3600 s")
        assert near(schedule.next_tick, hours=1)
        assert seconds == LOOK_EVERY_SECONDS
        assert not Task.objects.exists()

    def test_the_first_tick_of_a_cron_is_the_next_moment_of_its_place(self, only):
        cron = Cron("0 3 * * *", time_zone="Asia/Tokyo")
        only(Report=cron)
        before = timezone.now()

        Host().turn()

        schedule = Schedule.objects.get()
        assert schedule.schedule == "0 3 * * * Asia/Tokyo"
        assert schedule.next_tick == cron.following(before, before)

    def test_a_processor_s_own_init_is_not_run_for_it(self, only):
        """It may do anything, and this is the supervisor's process."""
        (report,) = only(Report=HOURLY).values()
        report.__init__ = lambda self: 1 / 0

        assert Host().turn()

    def test_without_a_scheduled_processor_no_statement_is_made(self, only):
        only(Report=None)
        only(Elsewhere=HOURLY, queue_name="elsewhere")
        untouched = None

        asyncio.run(Ticker(uuid.uuid4(), "default", untouched, ttl=TTL).keep())

    def test_before_its_first_beat_it_sets_nothing_and_soon_looks_again(self, only):
        """Nobody could tell whether it lives."""
        only(Report=HOURLY)
        host = Host()
        Supervisor.objects.all().delete()

        assert host.turn() == AGAIN_SECONDS
        assert not Schedule.objects.exists()


class TestClockThatWasAhead:
    """A tick is neither years away then, nor does it come twice."""

    def set(self, **columns):
        now = timezone.now()
        Schedule.objects.update(**{name: now + delta for name, delta in columns.items()})

    def test_a_tick_that_was_put_too_far_is_moved_up(self, only, caplog):
        only(Report=HOURLY)
        host = Host()
        host.turn()
        self.set(last_tick=-timedelta(minutes=20), next_tick=timedelta(days=365))
        grid = Schedule.objects.get().next_tick

        host.turn()

        moved = Schedule.objects.get().next_tick
        assert timedelta(0) < moved - timezone.now() <= timedelta(hours=1)
        assert (grid - moved) % timedelta(hours=1) == timedelta(0)
        assert "moved up the tick of Report" in caplog.text

    def test_one_that_came_too_early_does_not_come_again(self, only):
        only(Report=HOURLY)
        host = Host()
        host.turn()
        self.set(last_tick=timedelta(minutes=20), next_tick=timedelta(days=365, minutes=20))
        last = Schedule.objects.get().last_tick

        host.turn()

        assert Schedule.objects.get().next_tick == last + timedelta(hours=1)

    def test_a_clock_that_goes_back_by_seconds_changes_nothing(self, only):
        """As when it is adjusted: what ticked within them would tick again."""
        only(Report=Every(seconds=0.5))
        host = Host()
        host.turn()
        self.set(last_tick=timedelta(seconds=5), next_tick=timedelta(seconds=5.5))
        before = Schedule.objects.get().next_tick

        host.turn()

        assert Schedule.objects.get().next_tick == before
        assert ticks() == []

    @pytest.mark.parametrize(
        "expression", ["*/5 * * * *", "30 2 * * *", "0 3 * * *", "7 */2 * * *"]
    )
    def test_where_clocks_are_changed_no_tick_seems_too_far(self, expression):
        """Of any moment before a tick the next one is that one."""
        cron = Cron(expression, time_zone="Europe/Berlin")
        for day in (datetime(2026, 3, 28, 20, tzinfo=UTC), datetime(2026, 10, 24, 20, tzinfo=UTC)):
            tick = day
            while tick < day + timedelta(hours=30):
                following = cron.following(tick, tick)
                for minutes in range(0, int((following - tick).total_seconds() / 60), 7):
                    assert cron.following(following, tick + timedelta(minutes=minutes)) == following
                tick = following


class TestRefused:
    """What the database refuses of one tick is that one's."""

    def test_a_sequence_behind_its_table_delays_a_tick_and_ends_nothing(self, only, caplog):
        """As after a logical replication; each attempt takes a number."""
        only(Report=HOURLY)
        host = Host()
        host.turn()
        late(), host.turn()
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT setval('partisan_async_task_id_seq', min(id), false)"
                " FROM partisan_async_task"
            )
        due = late()
        Task.objects.update(status="finished", finished_at=timezone.now())

        assert 0 < host.turn() < 1
        assert "the tick of Report failed, and will until somebody mends it: duplicate key" in (
            caplog.text
        )
        assert Schedule.objects.get().next_tick == due
        while Schedule.objects.get().next_tick == due:
            host.turn()
        assert ticks()[1:] == [due]
        assert "the tick of Report works again" in caplog.text

    def test_one_processor_whose_ticks_are_refused_holds_up_no_other(self, only, caplog):
        only(Bad=HOURLY, Good=HOURLY)
        host = Host()
        host.turn()
        due = late("Bad"), late("Good")
        with refusal("NEW.processor_class = 'Bad'", on="INSERT"):
            host.turn()

        assert [task.processor_class for task in Task.objects.all()] == ["Good"]
        host.turn()
        assert sorted(ticks()) == sorted(due)

    def test_one_that_cannot_be_set_holds_up_no_other(self, only, caplog):
        only(Bad=HOURLY, Good=HOURLY)
        table = "partisan_async_schedule"
        with refusal("NEW.processor_class = 'Bad'", on="INSERT", table=table):
            assert Host().turn() == AGAIN_SECONDS

        assert [each.pk for each in Schedule.objects.all()] == ["Good"]
        assert "the tick of Bad failed" in caplog.text


class TestTick:
    def test_a_due_tick_enqueues_one_task_and_only_once(self, only):
        (report,) = only(Report=HOURLY).values()
        report.PRIORITY = 3
        hosts = [Host(), Host()]
        hosts[0].turn()
        due = late()

        for host in [*hosts, *hosts]:
            host.turn()

        task = Task.objects.get()
        assert (task.tick, task.execute_after, task.status) == (due, due, "new")
        assert (task.args, task.kwargs, task.priority) == ([], {}, 3)
        schedule = Schedule.objects.get()
        assert schedule.last_tick == due
        assert schedule.next_tick == due + timedelta(hours=1)

    def test_it_sleeps_until_the_next_one(self, only):
        only(Report=HOURLY)
        host = Host()
        host.turn()
        late(seconds=-5)

        assert 4 < host.turn() < 5

    def test_many_at_the_same_moment_are_one(self, only):
        """Who sees it due at once with others finds it taken when its turn comes."""
        only(Report=HOURLY)
        hosts = [Host() for _ in range(8)]
        hosts[0].turn()
        due = [late() for _ in range(5)]

        for moment in due:
            Schedule.objects.update(next_tick=moment)
            Task.objects.all().delete()
            together = threading.Barrier(len(hosts))

            def turn(host, together=together):
                together.wait()
                host.turn()

            threads = [threading.Thread(target=turn, args=[host]) for host in hosts]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

            assert ticks() == [moment]

    def test_an_identical_task_that_waits_takes_its_place(self, only, caplog):
        """So a queue in which nothing runs does not fill up."""
        caplog.set_level(logging.INFO, "partisan_async")
        (report,) = only(Report=HOURLY).values()
        host = Host()
        host.turn()
        waiting = report().delay()
        late()

        host.turn()

        assert [task.pk for task in Task.objects.all()] == [waiting.pk]
        assert near(Schedule.objects.get().next_tick, hours=1)
        assert "not ticked: Report, tick of" in caplog.text

    def test_a_call_with_arguments_is_not_identical(self, only):
        (report,) = only(Report=HOURLY).values()
        host = Host()
        host.turn()
        report("other").delay()
        late()

        host.turn()

        assert Task.objects.count() == 2

    def test_where_calls_are_not_unique_each_adds_one(self, only):
        (report,) = only(Report=HOURLY).values()
        report.UNIQUE_FOR_PARAMS = False
        host = Host()
        host.turn()
        report().delay()
        late()

        host.turn()

        assert Task.objects.count() == 2

    def test_a_retry_or_a_postpone_keeps_its_tick(self, only):
        (report,) = only(Report=HOURLY).values()
        seen = []

        def run(self):
            seen.append((self.task_obj.tick, self.task_obj.args))
            if len(seen) == 1:
                raise PostponeTask(0)

        report.run = run
        host = Host()
        host.turn()
        due = late()
        host.turn()

        run_pending()

        assert seen == [(due, []), (due, [])]
        assert Task.objects.get().execute_after != due

    def test_a_task_of_a_call_has_no_tick(self, only):
        (report,) = only(Report=HOURLY).values()

        assert report().delay().tick is None
        assert perform(report).task.tick is None


class TestOutage:
    def test_one_task_stands_for_all_that_was_missed(self, only, caplog):
        """Not since calls are unique: also where they are not."""
        (report,) = only(Report=HOURLY).values()
        report.UNIQUE_FOR_PARAMS = False
        host = Host()
        host.turn()
        due = late(seconds=3600 * 72 + 60)

        host.turn()

        assert ticks() == [due]
        assert Schedule.objects.get().next_tick == due + timedelta(hours=73)
        assert "missed ticks of Report: its task of" in caplog.text

    def test_catching_up_each_has_its_task(self, only, caplog):
        """Though calls are unique: each of them is counted on."""
        only(Report=Every(seconds=60, catch_up=True))
        host = Host()
        host.turn()
        due = late(seconds=60 * 250 + 10)

        host.turn()

        assert ticks() == [due + timedelta(minutes=n) for n in range(251)]
        assert Schedule.objects.get().next_tick == due + timedelta(minutes=251)
        assert "caught up with 100 ticks of Report" in caplog.text

    def test_catching_up_goes_on_where_another_ended_in_the_middle(self, only):
        """A hundred are enqueued at a time, and the row says how far that was."""
        only(Report=Every(seconds=60, catch_up=True))
        first, second = Host(), Host()
        first.turn()
        due = late(seconds=60 * 250 + 10)

        async def once():
            await first.ticker.turn()
            await first._connection.close()

        asyncio.run(once())
        assert len(ticks()) == 100
        second.turn()

        assert ticks() == [due + timedelta(minutes=n) for n in range(251)]


class TestSwitchedOff:
    def test_it_ticks_no_more(self, only):
        only(Report=HOURLY, Other=HOURLY)
        host = Host()
        host.turn()
        late("Report"), late("Other")

        assert steering.switch_off(["Report"]) == ["Report"]
        assert steering.switch_off(["Report", "Nobody"]) == []
        host.turn()

        assert [task.processor_class for task in Task.objects.all()] == ["Other"]
        assert Schedule.objects.get(pk="Report").next_tick is None

    def test_it_goes_on_from_the_moment_it_is_switched_on(self, only):
        """What would have been meanwhile was not wanted."""
        only(Report=Every(seconds=60, catch_up=True))
        host = Host()
        host.turn()
        late(seconds=3600)
        steering.switch_off(["Report"])
        host.turn()

        assert steering.switch_on(["Report"]) == ["Report"]
        host.turn()

        assert near(Schedule.objects.get().next_tick, minutes=1)
        assert not Task.objects.exists()

    def test_a_new_release_does_not_switch_it_on(self, only):
        only(Report=HOURLY)
        Host().turn()
        steering.switch_off(["Report"])
        only(Report=Every(seconds=60))

        Host().turn()

        schedule = Schedule.objects.get()
        assert (schedule.schedule, schedule.enabled) == ("every 60 s", False)
        assert schedule.next_tick is None


class TestReleases:
    """Old code and new code, side by side."""

    def test_the_newest_supervisor_s_code_decides(self, only):
        only(Report=HOURLY)
        old = Host()
        old.turn()
        only(Report=Every(seconds=60))
        new = Host()

        new.turn()
        old.turn()

        schedule = Schedule.objects.get()
        assert (schedule.schedule, schedule.set_by) == ("every 60 s", new.me)
        assert near(schedule.next_tick, minutes=1)

    def test_the_old_one_leaves_its_ticks_alone(self, only):
        """It would count the next one by its own rule."""
        only(Report=HOURLY)
        old = Host()
        only(Report=Every(seconds=60))
        new = Host()
        new.turn()
        due = late()

        old.turn()
        assert not Task.objects.exists()
        new.turn()

        assert ticks() == [due]
        assert Schedule.objects.get().next_tick == due + timedelta(minutes=1)

    def test_where_nothing_changed_either_ticks_and_the_next_tick_stays(self, only):
        only(Report=HOURLY)
        old, new = Host(), Host()
        old.turn()
        due = late()

        new.turn()

        assert ticks() == [due]
        assert Schedule.objects.get().set_by == new.me

    def test_rolled_back_to_the_old_one_it_has_its_turn(self, only):
        only(Report=HOURLY)
        old = Host()
        only(Report=Every(seconds=60))
        new = Host()
        new.turn()
        old.turn()

        new.die()
        old.beat()
        old.turn()

        schedule = Schedule.objects.get()
        assert (schedule.schedule, schedule.set_by) == ("every 3600 s", old.me)

    def test_a_processor_that_moved_ticks_in_its_new_queue_alone(self, only):
        only(Report=HOURLY)
        old = Host()
        old.turn()
        only(Report=HOURLY, queue_name="moved")
        new = Host("moved")
        new.turn()
        due = late()

        old.turn()
        assert not Task.objects.exists()
        new.turn()

        assert ticks() == [due]
        assert Task.objects.get().queue_name == "moved"

    def test_what_is_gone_from_the_code_ticks_no_more(self, only):
        only(Report=HOURLY)
        Host().turn()
        late()
        only(Other=HOURLY)

        Host().turn()

        assert not Task.objects.exists()


class TestRaces:
    """Two connections, and the order in which they meet."""

    @pytest.fixture
    def due(self, only):
        (report,) = only(Report=HOURLY).values()
        Host().turn()
        due = late()
        following = due + timedelta(hours=1)
        return store.tick(
            tick_of(report, HOURLY), report.__name__, "every 3600 s", [due], following
        )

    @pytest.fixture
    def other(self):
        params = connection.get_connection_params()
        params.pop("cursor_factory"), params.pop("context")
        with psycopg.connect(**params) as other:
            yield other

    def test_who_comes_while_another_ticks_waits_no_longer_than_a_moment(self, due, other):
        """That one may be stopped in the middle of it, for ever."""
        ((ticked, ids),) = other.execute(*due).fetchall()
        assert (ticked, len(ids)) == (True, 1)
        host = Host()

        assert host.turn() == AGAIN_SECONDS
        other.commit()
        host.turn()

        assert Task.objects.count() == 1

    def test_who_ends_in_the_middle_has_not_ticked(self, due, other):
        other.execute(*due)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [other.info.backend_pid])
            wait_until(lambda: not alive(other.info.backend_pid))
        other.close()

        Host().turn()

        assert Task.objects.count() == 1

    def test_an_identical_call_that_is_not_committed_is_not_waited_for(self, due, only):
        """The others of the queue tick on meanwhile."""
        (report, _) = only(Report=HOURLY, Other=HOURLY).values()
        host = Host()
        host.turn()
        late("Report"), late("Other")
        with transaction.atomic():
            report().delay()
            thread = threading.Thread(target=host.turn)
            thread.start()
            thread.join()
        assert [task.processor_class for task in Task.objects.order_by("id")] == ["Report", "Other"]

        host.turn()

        assert Task.objects.count() == 2
        assert near(Schedule.objects.get(pk="Report").next_tick, hours=1)

    @pytest.mark.parametrize(
        "change", [{"schedule": "every 60 s"}, {"queue_name": "moved"}, {"next_tick": None}]
    )
    def test_a_row_that_was_changed_since_it_was_seen_is_not_ticked(self, due, change):
        """By another release, or by being switched off."""
        Schedule.objects.update(**change)

        with connection.cursor() as cursor:
            cursor.execute(*due)
            ((ticked, _),) = cursor.fetchall()

        assert not ticked
        assert not Task.objects.exists()

    def test_a_clock_that_was_set_back_ticks_nothing_twice(self, due, only):
        """What is not due by the database's clock is not enqueued, whatever was seen before."""
        schedule = Schedule.objects.get()
        Schedule.objects.update(next_tick=schedule.next_tick + timedelta(days=1))
        moment = schedule.next_tick + timedelta(days=1)
        call = tick_of(registry.get("Report"), HOURLY)
        statement = store.tick(
            call, call.processor_class, "every 3600 s", [moment], moment + timedelta(hours=1)
        )

        with connection.cursor() as cursor:
            cursor.execute(*statement)
            ((ticked, ids),) = cursor.fetchall()

        assert (ticked, ids) == (False, None)
        assert not Task.objects.exists()


def alive(pid):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid])
        return cursor.fetchall()


ONLY_NOTIFY = {
    "beat_seconds": 60,
    "ttl_seconds": 300,
    "SLEEP_DELAY_SECONDS": 3600,
    "WORKERS_COUNT": 1,
}


def has_looked_since(moment):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM pg_stat_activity WHERE application_name = 'partisan_async ticks beat'"
            " AND query LIKE '%%SELECT p.name, %%' AND query_start > %s"
            " AND state = 'idle'",
            [moment],
        )
        return cursor.fetchall()


class TestLive:
    def test_ticks_run(self):
        with live_supervisor("ticks", **ONLY_NOTIFY) as supervisor:
            wait_until(supervisor.parts.wakeup.proven.is_set)
            wait_until(lambda: len(marks()) >= 5)

        assert marks() == [f"tick of {tick}" for tick in ticks()][: len(marks())]
        assert len(set(ticks())) == len(ticks())

    def test_a_paused_queue_s_ticks_leave_one_task_waiting(self):
        steering.pause("ticks")
        with live_supervisor("ticks", WORKERS_COUNT=1):
            wait_until(Schedule.objects.filter(last_tick__isnull=False).exists)
            first = Schedule.objects.get().last_tick
            wait_until(lambda: Schedule.objects.get().last_tick > first + timedelta(seconds=1))
            assert [task.status for task in Task.objects.all()] == ["new"]

            steering.resume("ticks")
            wait_until(lambda: len(marks()) > 1)

    def test_switched_on_it_ticks_at_once(self):
        """Neither a look nor a poll nor a beat is due for long."""
        with live_supervisor("ticks", **ONLY_NOTIFY) as supervisor:
            wait_until(supervisor.parts.wakeup.proven.is_set)
            wait_until(marks)
            moment = timezone.now()
            steering.switch_off(["Tick"])
            wait_until(lambda: has_looked_since(moment))  # and will not for another half minute
            wait_until(ended)
            before = len(marks())
            steering.switch_on(["Tick"])

            wait_until(lambda: len(marks()) > before)

    def test_it_goes_on_when_its_connection_was_ended(self):
        with live_supervisor("ticks", WORKERS_COUNT=1):
            for _ in range(3):
                wait_until(marks)
                with connection.cursor() as cursor:
                    cursor.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE application_name = 'partisan_async ticks beat'"
                    )
                before = len(marks())
                wait_until(lambda before=before: len(marks()) > before + 2)

        assert len(set(ticks())) == len(ticks())


def test_a_tick_is_of_the_kind_that_django_has(settings):
    """One type everywhere: what is subtracted from it may come from a column."""
    moment = datetime(2026, 11, 25, 2, 5, 0, 200000, tzinfo=UTC)
    task = Task(arguments={"args": [], "kwargs": {}, "tick": "2026-11-25T03:05:00.2+01:00"})

    assert task.tick == moment
    settings.USE_TZ = False
    assert task.tick == timezone.make_naive(moment, timezone.get_default_timezone())


def test_the_tests_own_processor_is_in_a_queue_of_its_own():
    """It would tick in everybody's tests."""
    assert Tick.QUEUE_NAME == "ticks"
