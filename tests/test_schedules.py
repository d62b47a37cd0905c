"""Schedules of the code: several of one processor, with arguments, that skip, and how they fare."""

import asyncio
import logging
import threading
import time
import uuid
from datetime import date, timedelta

import pytest
from django.core.checks import run_checks
from django.db import connection, transaction
from django.utils import timezone

from partisan_async import registry, schedules, steering, store
from partisan_async.models import Schedule, Task
from partisan_async.operate.doctor.schedules import overdue_schedules
from partisan_async.processor import BaseTaskProcessor
from partisan_async.schedule import Cron, Every, of_rule
from partisan_async.store import Punctuality, ticking
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.successes import Successes
from partisan_async.task_processor import TaskProcessor
from partisan_async.testing import live_supervisor, run_pending
from partisan_async.unique import Unique
from tests import test_ticker, test_timetable
from tests.conftest import marks, wait_until
from tests.test_ticker import HOURLY, Host, late
from tests.testapp.partisan_tasks import Fail, Write

pytestmark = pytest.mark.django_db(transaction=True)

only = test_ticker.only

EU, US = Every(seconds=3600, kwargs={"region": "eu"}), Every(seconds=60, kwargs={"region": "us"})


@pytest.fixture
def report(only):
    (report,) = only(Report=None).values()
    report.SCHEDULES = {"eu": EU, "us": US}
    return report


def by_key():
    return {each.pk: each for each in Schedule.objects.all()}


class TestSeveral:
    def test_each_has_a_row_and_arguments_of_its_own(self, report):
        report.SCHEDULE = HOURLY
        host = Host()
        host.turn()
        rows = by_key()
        assert {key: (row.processor, row.schedule) for key, row in rows.items()} == {
            "Report": (None, "every 3600 s"),
            "Report:eu": ("Report", "every 3600 s"),
            "Report:us": ("Report", "every 60 s"),
        }
        due = {key: late(key) for key in rows}

        host.turn()

        found = {each.arguments.get("schedule"): each for each in Task.objects.all()}
        assert {key: (task.kwargs, task.tick) for key, task in found.items()} == {
            None: ({}, due["Report"]),
            "Report:eu": ({"region": "eu"}, due["Report:eu"]),
            "Report:us": ({"region": "us"}, due["Report:us"]),
        }
        assert {each.processor_class for each in found.values()} == {"Report"}

    def test_a_single_one_may_have_arguments_too(self, report):
        report.SCHEDULES = {}
        report.SCHEDULE = EU
        host = Host()
        host.turn()
        late()

        host.turn()

        assert [task.kwargs for task in Task.objects.all()] == [{"region": "eu"}]
        assert list(Task.objects.get().arguments) == ["args", "tick", "kwargs"]

    def test_its_values_are_stored_as_those_of_a_call(self, report):
        class Daily(TaskProcessor):
            SCHEDULES = {"x": Every(seconds=60, kwargs={"day": date(2026, 3, 1)})}

            def run(self, day: date) -> None:
                pass

        registry.register(Daily)
        host = Host()
        host.turn()
        late("Daily:x")

        host.turn()

        task = Task.objects.get()
        assert task.kwargs == {"day": "2026-03-01"}
        assert bytes(task.digest) == bytes(Daily(day=date(2026, 3, 1)).delay().digest)

    def test_each_is_switched_by_itself_by_any_name_of_its_processor(self, report):
        report.ALSO_KNOWN_AS = ("Account",)
        registry._processors["Account"] = report
        Host().turn()
        assert set(by_key()) == {"Account:eu", "Account:us"}

        assert steering.switch_off(["Report:eu"]) == ["Account:eu"]
        assert steering.switch_off(["Account:us", "Report:none"]) == ["Account:us"]
        assert steering.switch_on(["Account:eu"]) == ["Account:eu"]

    def test_one_that_is_taken_out_ticks_no_more_and_the_others_do(self, report):
        Host().turn()
        report.SCHEDULES = {"us": US}
        late("Report:eu"), late("Report:us")

        Host().turn()

        assert [task.kwargs for task in Task.objects.all()] == [{"region": "us"}]

    def test_what_the_class_is_given_later_changes_no_schedule(self, report):
        region = {"region": "eu"}
        each = Every(seconds=60, kwargs=region)
        region["region"] = "us"

        assert each.kwargs == {"region": "eu"}
        assert hash(each) == hash(Every(seconds=60))
        assert each != Every(seconds=60)

    def test_a_rule_is_read_as_it_was_written(self):
        for each in (
            Every(seconds=1 / 3, skip_while_running=True),
            Cron("*/5 * * * *", time_zone="Asia/Tokyo", catch_up=True),
        ):
            assert of_rule(each.rule) == each


@pytest.fixture
def errors(only):
    """Return what the checks find of a processor with these attributes."""

    def errors(run=lambda self: None, base=BaseTaskProcessor, **attributes):
        made = type("Report", (base,), {"run": run, "QUEUE_NAME": "checked", **attributes})
        registry._processors[attributes.get("NAME") or "Report"] = made
        return [
            (each.id.rpartition(".")[2], each.msg, each.hint)
            for each in run_checks(tags=["partisan_async"])
            if each.obj is made or each.id in ("partisan_async.E026",)
        ]

    only()
    return errors


def typed(self, region: str, day: int = 0):
    pass


class TestChecks:
    def test_what_is_well_is_not_told_of(self, errors):
        assert errors(typed, SCHEDULES={"eu": EU, "us": US}, SCHEDULE=EU) == []
        assert errors(SCHEDULES={"a": "0 7 * * *", "b c": HOURLY}, SCHEDULE="0 7 * * *") == []

    @pytest.mark.parametrize(
        ("value", "said", "hint"),
        [
            (["0 7 * * *"], "SCHEDULES is ['0 7 * * *'].", "must be a dict by names"),
            (None, "SCHEDULES is None.", "must be a dict by names"),
            ({1: "0 7 * * *"}, "has the name 1.", "must be text"),
            ({"": "0 7 * * *"}, "has the name ''.", "has 0 characters; it must have 1 to 248"),
            ({"x" * 249: "0 7 * * *"}, "has the name 'xx", "it must have 1 to 248"),
            ({" x": "0 7 * * *"}, "has the name ' x'.", "without blanks around it"),
            ({"x": "61 * * * *"}, "SCHEDULES['x'] is '61 * * * *'.", "Bad minute"),
            ({"x": 60}, "SCHEDULES['x'] is 60.", "must be a cron expression"),
            ({"x": None}, "SCHEDULES['x'] is None.", "Leave it out."),
        ],
    )
    def test_schedules_that_cannot_be(self, errors, value, said, hint):
        ((number, told, way_out),) = errors(SCHEDULES=value)

        assert number == "E024"
        assert said in told
        assert hint in way_out

    @pytest.mark.parametrize(
        ("kwargs", "said"),
        [
            ({}, "region is missing"),
            ({"regoin": "eu"}, "there is no parameter regoin; did you mean region?"),
            ({"region": 5}, "region"),
            ({"region": "eu", "day": "x"}, "day"),
            ({"region": "x" * 2**16}, "may be 65,536"),
        ],
    )
    def test_what_run_does_not_take(self, errors, kwargs, said):
        ((number, told, way_out),) = errors(
            typed, SCHEDULES={"eu": Every(seconds=60, kwargs=kwargs)}
        )

        assert number == "E025"
        assert "The schedule 'Report:eu' calls Report with kwargs=" in told
        assert said in told
        assert way_out == "Give the schedule kwargs that run() takes."

    def test_of_an_untyped_one_json_and_its_init_are_held_against_them(self, errors):
        def init(self, region):
            pass

        ((number, told, _),) = errors(SCHEDULE=Every(seconds=60, kwargs={"x": {1, 2}}))
        assert number == "E025"
        assert "is of type set, which is not JSON" in told
        ((number, told, _),) = errors(SCHEDULES={"x": US, "y": HOURLY}, __init__=init)
        assert "missing a required argument: 'region'" in told

    def test_a_schedule_with_kwargs_gives_what_run_needs(self, errors):
        assert errors(typed, SCHEDULE=EU) == []
        ((number, _, hint),) = errors(typed, SCHEDULE=HOURLY)
        assert (number, hint) == ("E017", "Give region a default, or the schedule kwargs.")

    @pytest.mark.parametrize(
        ("wrong", "number"),
        [
            ({"run": typed, "SCHEDULE": "0 7 * * *"}, "E017"),
            ({"run": typed, "SCHEDULES": {"x": US}, "SENSITIVE": ("no",)}, "E017"),
            ({"SCHEDULES": {"x": US}, "QUEUE_NAME": ""}, "E004"),
            ({"SCHEDULES": {"x": US}, "SCHEDULE": "61 * * * *"}, "E004"),
            ({"SCHEDULES": {"x": US}, "run": BaseTaskProcessor.run}, "E005"),
        ],
    )
    def test_what_another_check_tells_of_is_told_once(self, errors, wrong, number):
        assert [each[0] for each in errors(**wrong)] == [number]

    def test_two_of_one_name(self, errors):
        errors(NAME="Account", SCHEDULES={"a": HOURLY})
        ((number, told, hint),) = errors(NAME="Account:a", SCHEDULE=HOURLY)

        assert number == "E026"
        assert "The schedule 'Account:a'" in told
        assert "Rename one of the two" in hint

    def test_a_name_that_those_made_at_run_time_have(self, errors):
        ((number, _told, hint),) = errors(NAME=":acme", SCHEDULE=HOURLY)

        assert (number, hint) == ("E026", "Give the processor a NAME without a colon in front.")

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"kwargs": ["eu"]}, "must be a dict of arguments by their names"),
            ({"kwargs": {1: "eu"}}, "must be a dict of arguments by their names"),
            ({"kwargs": None}, "must be a dict of arguments by their names"),
            ({"skip_while_running": "no"}, "skip_while_running='no' must be True or False"),
            ({"skip_while_running": True, "catch_up": True}, "leave one of the two out"),
        ],
    )
    def test_what_no_schedule_can_be_raises_where_it_is_written(self, wrong, said):
        for make in (lambda: Every(seconds=1, **wrong), lambda: Cron("* * * * *", **wrong)):
            with pytest.raises(ValueError, match=said):
                make()


class TestSkips:
    """With ``skip_while_running`` a tick enqueues nothing while an identical task runs."""

    @pytest.fixture
    def skipping(self, report):
        report.SCHEDULES = {
            "eu": Every(seconds=3600, kwargs={"region": "eu"}, skip_while_running=True)
        }
        host = Host()
        host.turn()
        return report, host

    def run(self, task):
        columns = {"status": "in_process", "claimed_by": uuid.uuid4(), "digest": None}
        Task.objects.filter(pk=task.pk).update(**columns)

    def test_while_one_runs(self, skipping, caplog):
        caplog.set_level(logging.INFO, "partisan_async")
        _report, host = skipping
        late("Report:eu"), host.turn()
        self.run(Task.objects.get())
        due = late("Report:eu")

        host.turn()

        assert Task.objects.count() == 1
        assert by_key()["Report:eu"].last_tick == due
        assert "an identical task still waits or runs" in caplog.text

    def test_while_a_call_of_ones_own_runs(self, skipping):
        report, host = skipping
        self.run(report(region="eu").delay())
        late("Report:eu")

        host.turn()

        assert Task.objects.count() == 1

    @pytest.mark.parametrize("call", [("eu",), ()])
    def test_not_while_another_runs(self, skipping, call):
        report, host = skipping
        self.run(report(*call).delay())
        late("Report:eu")

        host.turn()

        assert Task.objects.count() == 2

    @pytest.mark.parametrize("unique", [True, False])
    def test_not_while_one_waits_either_nor_after_it_has_ended(self, skipping, unique):
        """Else two could wait, and then run side by side."""
        report, _ = skipping
        report.UNIQUE_FOR_PARAMS = unique
        host = Host()
        late("Report:eu"), host.turn()
        late("Report:eu"), host.turn()
        assert Task.objects.count() == 1
        Task.objects.update(status="finished", finished_at=timezone.now())
        late("Report:eu"), host.turn()

        assert Task.objects.count() == 2

    def test_of_one_made_at_run_time(self, report):
        schedules.create("acme", report("acme"), Every(seconds=3600, skip_while_running=True))
        self.run(report("acme").delay())
        late(":acme")

        test_timetable.Host().turn()

        assert Task.objects.count() == 1

    def test_one_that_is_claimed_in_the_middle_counts(self, skipping, monkeypatch):
        """Before the tick's statement it waits, and at its insert it runs."""
        monkeypatch.setattr(ticking, "LOCK_PATIENCE_MILLISECONDS", 60_000)
        report, host = skipping
        waiting = report(region="eu").delay()
        due = late("Report:eu")
        name = "partisan_async_wait_in_tick"
        with connection.cursor() as cursor:
            cursor.execute(f"""
                CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN PERFORM pg_advisory_xact_lock_shared(77); RETURN NEW; END $$;
                CREATE TRIGGER {name} BEFORE UPDATE ON partisan_async_schedule
                FOR EACH ROW EXECUTE FUNCTION {name}();
                SELECT pg_advisory_lock(77)
            """)
            try:
                thread = threading.Thread(target=host.turn)
                thread.start()
                wait_until(waits_for_the_lock)
                self.run(waiting)
                cursor.execute("SELECT pg_advisory_unlock(77)")
                thread.join()
            finally:
                cursor.execute(f"DROP FUNCTION {name} CASCADE")

        assert by_key()["Report:eu"].last_tick == due
        assert Task.objects.count() == 1


def waits_for_the_lock():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        return cursor.fetchall()


class TestSuccess:
    """When a task of a schedule last finished: a moment after it has."""

    def test_it_is_noted_of_each(self):
        with live_supervisor("ticks", WORKERS_COUNT=1):
            wait_until(lambda: Schedule.objects.filter(last_success__isnull=False).exists())
        row = Schedule.objects.get(pk="Tick")

        assert timedelta(0) <= timezone.now() - row.last_success < timedelta(seconds=30)
        assert row.prior_tick < row.last_tick

    def test_of_one_made_at_run_time_and_not_of_one_that_fails(self):
        schedules.create("good", Write("good"), Every(seconds=0.2))
        schedules.create("bad", Fail("ValueError", "no"), Every(seconds=0.2))
        with live_supervisor(beat_seconds=0.2, WORKERS_COUNT=1, DELETE_TASKS_ON_COMPLETE=True):
            wait_until(lambda: Schedule.objects.filter(last_success__isnull=False).exists())
            wait_until(lambda: Task.objects.filter(status="error").count() > 2)

        assert by_key()[":good"].last_success is not None
        assert by_key()[":bad"].last_success is None

    def test_what_is_noted_when_it_stops_is_not_lost(self):
        """The last second's are written with the other books."""
        schedules.create("good", Write("good"), Every(seconds=3600))
        late(":good")
        with live_supervisor(beat_seconds=0.2, WORKERS_COUNT=1):
            wait_until(marks)

        assert by_key()[":good"].last_success is not None

    def test_a_row_that_somebody_holds_is_noted_later(self, report):
        Host().turn()
        connection = Connection("default", "successes of a test", patience=test_ticker.TTL)
        noted = Successes(connection, None, watches=False)

        def write():
            async def write():
                await noted.write()
                await noted._connection.close()

            asyncio.run(write())

        noted._at = dict.fromkeys(("Report:eu", "Report:us", "Gone"), time.monotonic())
        with transaction.atomic():
            Schedule.objects.select_for_update().get(pk="Report:eu")
            thread = threading.Thread(target=write)
            thread.start()
            thread.join()
        assert set(noted._at) == {"Report:eu", "Gone"}
        write()

        assert set(noted._at) == {"Gone"}
        assert all(each.last_success for each in by_key().values())


def minutes_ago(**columns):
    now = timezone.now()
    return {
        name: None if ago is None else now - timedelta(minutes=ago) for name, ago in columns.items()
    }


class TestOverdue:
    """Its tick is not taken, or no task of it finishes."""

    @pytest.mark.parametrize(
        ("columns", "late", "fruitless"),
        [
            ({"next_tick": -60}, False, False),
            ({"next_tick": 0.5}, False, False),
            ({"next_tick": 2}, True, False),
            ({"next_tick": None}, False, False),
            # In minutes: the tick before the last, the last, and the last success.
            ({"prior_tick": None, "last_tick": 5}, False, False),
            ({"prior_tick": 5, "last_tick": 5}, False, False),
            ({"prior_tick": 65, "last_tick": 5}, False, True),
            ({"prior_tick": 65, "last_tick": 5, "last_success": 64}, False, False),
            ({"prior_tick": 65, "last_tick": 5, "last_success": 65.5}, False, False),
            ({"prior_tick": 65, "last_tick": 5, "last_success": 124}, False, True),
        ],
    )
    def test_it_is(self, columns, late, fruitless):
        schedules.create("acme", Write(), HOURLY)
        Schedule.objects.update(**minutes_ago(**columns))

        (found,) = self.asked()

        assert (found.is_late, found.is_fruitless) == (late, fruitless)
        told = list(overdue_schedules())
        assert [each.well for each in told] == [not (late or fruitless)]

    def test_switched_off_or_out_of_the_code_it_is_not(self, report):
        Host().turn()
        schedules.create("acme", report(), HOURLY)
        Schedule.objects.update(next_tick=timezone.now() - timedelta(hours=1))
        steering.switch_off([":acme", "Report:us"])

        assert [each.key for each in self.asked("Report:us")] == []
        assert [each.key for each in self.asked("Report:eu")] == ["Report:eu"]

    @pytest.mark.parametrize("rule", [None, Unique(by=(), while_running=True)])
    @pytest.mark.parametrize("minutes", [10, 70])
    def test_ticks_that_are_skipped_since_one_runs_miss_no_success_for_an_hour(
        self, report, minutes, rule
    ):
        """Else one that hangs would be seen by nobody."""
        skips, report.UNIQUE = rule is None, rule
        report.SCHEDULES = {
            "eu": Every(seconds=3600, kwargs={"region": "eu"}, skip_while_running=skips)
        }
        host = Host()
        host.turn()
        late("Report:eu", seconds=4000), host.turn()
        TestSkips().run(Task.objects.get())
        Task.objects.update(**minutes_ago(claimed_at=minutes))
        for _ in range(3):
            late("Report:eu"), host.turn()

        (found,) = self.asked("Report:eu")
        assert Task.objects.count() == 1
        assert found.is_fruitless == (minutes > 60)

    def test_the_tick_before_the_last_is_kept(self, report):
        host = Host()
        host.turn()
        first = late("Report:eu")
        host.turn()
        assert by_key()["Report:eu"].prior_tick == first
        second = late("Report:eu")
        host.turn()
        late("Report:eu"), host.turn()

        assert by_key()["Report:eu"].prior_tick == second

    def asked(self, *keys):
        with connection.cursor() as cursor:
            cursor.execute(*store.punctuality(keys, 10))
            return [Punctuality(*row) for row in cursor.fetchall()]

    def test_doctor_says_which_and_what_to_do(self, report):
        Host().turn()
        run_pending()
        Schedule.objects.update(**minutes_ago(last_success=180))
        assert [each.text for each in overdue_schedules()] == [
            "2, none overdue; since the last success: Report:eu 3 hours, Report:us 3 hours"
        ]
        Schedule.objects.filter(pk="Report:eu").update(**minutes_ago(next_tick=10))
        schedules.create("acme", report(), HOURLY)
        Schedule.objects.filter(pk=":acme").update(**minutes_ago(prior_tick=120, last_tick=60))

        told = [each.text for each in overdue_schedules()]

        assert told[0] == (
            "The tick of the schedule Report:eu has been due for 10 minutes, and no supervisor"
            " of queue 'default' takes it: start one whose code has Report: manage.py"
            " start_partisan --async --queue_name default"
        )
        assert told[1] == (
            "The schedule :acme ticks in queue 'default', and no task of it has finished ever:"
            " they wait, run, or fail; look at the tasks of Report, and at their errors:"
            " manage.py partisan status"
        )
        assert len(told) == 2

    def test_doctor_names_the_first_few(self):
        for number in range(7):
            schedules.create(f"{number}", Write(), HOURLY)
        Schedule.objects.update(**minutes_ago(next_tick=10))

        told = [each.text for each in overdue_schedules()]

        assert len(told) == 6
        assert told[-1] == "2 more schedules are overdue: look into these first."
