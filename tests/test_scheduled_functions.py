"""Schedules of Django's own tasks: in their options, and made at run time."""

import asyncio
from datetime import timedelta
from functools import partial
from itertools import pairwise
from weakref import WeakValueDictionary

import pytest
from django.contrib.admin.utils import quote
from django.core.checks import run_checks
from django.urls import reverse
from django.utils import timezone

from partisan_async import registry, schedules, steering
from partisan_async.django_tasks import functions
from partisan_async.django_tasks.processors import processor_of
from partisan_async.enqueue.scheduled import having_schedules
from partisan_async.exceptions import ArgumentsTooLarge
from partisan_async.models import Schedule, Task
from partisan_async.schedule import Cron, Every
from partisan_async.tasks_backend import options
from partisan_async.testing import live_supervisor, run_pending
from partisan_async.unique import Unique
from tests import test_ticker, test_timetable
from tests.conftest import marks, wait_until
from tests.test_ticker import HOURLY, Host, late, ticks
from tests.testapp import tasks
from tests.testapp.partisan_tasks import Write

pytestmark = pytest.mark.django_db(transaction=True)

only = test_ticker.only

WRITE = "tests.testapp.tasks.write"
PARTISAN = {"BACKEND": "partisan_async.tasks_backend.PartisanBackend"}


def hourly(text, **more):
    return Every(seconds=3600, kwargs={"text": text}, **more)


@pytest.fixture
def declared(only, monkeypatch):
    """Give a function options; there are no schedules in the code but theirs."""
    only()
    monkeypatch.setattr(functions, "_functions", WeakValueDictionary())
    processor_of.cache_clear()

    def declared(task, **given):
        monkeypatch.setattr(task.func, "_partisan_options", {}, raising=False)
        options(**given)(task.func)
        return task

    yield declared
    processor_of.cache_clear()


class TestInTheOptions:
    def test_each_tick_is_a_task_that_runs_with_the_schedules_arguments(self, declared):
        declared(tasks.write, schedule=hourly("all"), schedules={"eu": hourly("eu")})
        Host().turn()
        rows = {row.pk: row.processor for row in Schedule.objects.all()}
        due = late(WRITE)
        late(f"{WRITE}:eu")

        Host().turn()

        assert rows == {WRITE: None, f"{WRITE}:eu": WRITE}
        found = {each.arguments.get("schedule"): each for each in Task.objects.all()}
        assert {key: each.kwargs for key, each in found.items()} == {
            None: {"text": "all"},
            f"{WRITE}:eu": {"text": "eu"},
        }
        assert found[None].tick == due
        run_pending()
        assert sorted(marks()) == ["all", "eu"]
        assert tasks.write.get_result(str(found[None].pk)).status.name == "SUCCESSFUL"

    def test_it_has_the_queue_and_the_priority_that_the_task_declares(
        self, declared, settings, monkeypatch
    ):
        settings.TASKS = {"default": PARTISAN | {"QUEUES": []}}
        elsewhere = tasks.told_with_context.using(queue_name="elsewhere")
        monkeypatch.setattr(tasks, "told_with_context", elsewhere)
        declared(elsewhere, schedule=Every(seconds=60, kwargs={"task_id": 7}))
        Host().turn()
        assert not Schedule.objects.exists()
        Host("elsewhere").turn()
        late("tests.testapp.tasks.told_with_context")

        Host("elsewhere").turn()

        row = Task.objects.get()
        assert (row.queue_name, row.priority) == ("elsewhere", 5)
        run_pending()
        row.refresh_from_db()
        assert row.result == [str(row.pk), 7]

    def test_of_its_ticks_one_waits_at_most_however_often_users_enqueue_it(self, declared):
        """In a queue that is paused for a day, one that ticks each minute is to run once."""
        declared(tasks.write, schedule=hourly("all"))
        Host().turn()
        tasks.write.enqueue(text="all")

        for _ in range(3):
            late(WRITE)
            Host().turn()

        assert Task.objects.exclude(digest=None).count() == 1
        assert Task.objects.count() == 2
        tasks.write.enqueue(text="all")
        assert Task.objects.count() == 3

    def test_with_catch_up_each_tick_has_a_task(self, declared):
        declared(tasks.write, schedule=hourly("all", catch_up=True))
        Host().turn()
        due = late(WRITE, seconds=3 * 3600 + 60)

        Host().turn()

        assert ticks() == [due + n * timedelta(hours=1) for n in range(4)]

    @pytest.mark.parametrize("while_running", [False, True])
    def test_a_tick_is_the_twin_of_the_calls_that_unique_says_are_the_same(
        self, declared, while_running
    ):
        unique = Unique(by=("text",), while_running=while_running)
        declared(tasks.write, schedule=hourly("all"), unique=unique)
        Host().turn()
        waits = tasks.write.enqueue("all")
        late(WRITE)

        Host().turn()

        assert [str(each.pk) for each in Task.objects.all()] == [waits.id]

    def test_by_a_default_that_its_ticks_leave_out_other_arguments_are_taken(self, declared):
        declared(tasks.of_customer, unique=Unique(by=("customer",)), schedule="0 7 * * *")
        task = tasks.of_customer.enqueue("ada")
        Task.objects.update(status="error", finished_at=timezone.now())

        steering.retry([int(task.id)], arguments={"args": ["bob"], "kwargs": {}})

        assert tasks.of_customer.enqueue("bob").id == task.id

    def test_it_is_switched_by_its_key(self, declared):
        declared(tasks.write, schedules={"eu": hourly("eu")})
        Host().turn()

        assert steering.switch_off([f"{WRITE}:eu"]) == [f"{WRITE}:eu"]
        assert steering.switch_on([f"{WRITE}:eu"]) == [f"{WRITE}:eu"]

    def test_supervisors_tick_it_and_note_that_it_succeeds(self, declared):
        declared(tasks.awrite, schedule=Every(seconds=0.3, kwargs={"text": "tick"}, catch_up=True))

        with live_supervisor(WORKERS_COUNT=1):
            wait_until(lambda: marks().count("tick") > 3)
            wait_until(lambda: Schedule.objects.get().last_success)

        assert {after - before for before, after in pairwise(ticks())} == {timedelta(seconds=0.3)}

    def test_one_of_another_backend_does_not_tick(self, declared, settings):
        """Its rows are that backend's, whatever options are below it."""
        declared(tasks.write, schedule=hourly("all"))
        assert [each.__name__ for each in having_schedules()] == [WRITE]
        dummy = type(tasks.write).__module__.removesuffix(".base") + ".backends.dummy.DummyBackend"

        settings.TASKS = {"default": {"BACKEND": dummy}, "ours": PARTISAN}

        assert having_schedules() == []


def errors():
    return [
        (each.id.rpartition(".")[2], each.msg, each.hint)
        for each in run_checks(tags=["partisan_async"])
        if each.id.rpartition(".")[2] in ("E024", "E025", "E026", "E031")
    ]


class TestRefused:
    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({"schedule": "61 * * * *"}, r"schedule='61 .*Bad minute"),
            ({"schedule": 60}, "schedule=60.* must be a cron expression"),
            ({"schedules": ["0 7 * * *"]}, r"schedules is \['0 7.* must be a dict by names"),
            ({"schedules": {1: "0 7 * * *"}}, "has the name 1. .* must be text"),
            ({"schedules": {"x": 60}}, r"schedules\['x'\] is 60. It must be a cron"),
            ({"schedules": {"x": None}}, r"schedules\['x'\] is None. Leave it out"),
            ({"schedules": {"x" * 250: HOURLY}}, "has the name 'xx.* must have 1 to"),
        ],
    )
    def test_what_is_no_schedule(self, wrong, words):
        def write(text): ...

        with pytest.raises(TypeError, match=words):
            options(**wrong)(write)

    @pytest.mark.parametrize(
        ("schedule", "said"),
        [
            (HOURLY, "missing a required argument: 'text'"),
            (Every(seconds=60, kwargs={"txt": "x"}), "missing a required argument: 'text'"),
            (hourly({1}), "is of type set"),
            (hourly("x" * 2**16), "may be 65,536"),
        ],
    )
    def test_arguments_that_the_function_does_not_take(self, declared, schedule, said):
        declared(tasks.write, schedules={"eu": schedule})

        ((number, told, _),) = errors()

        assert number == "E025"
        assert f"The schedule '{WRITE}:eu' calls {WRITE} with kwargs=" in told
        assert said in told

    def test_a_single_schedule_without_the_arguments_that_it_needs(self, declared):
        declared(tasks.write, schedule="0 7 * * *")

        ((number, told, _),) = errors()

        assert number == "E025"
        assert "missing a required argument: 'text'" in told

    def test_what_is_well_is_not_told_of(self, declared):
        declared(tasks.write, schedule=hourly("all"), schedules={"eu": hourly("eu")})

        assert errors() == []

    def test_a_function_that_is_no_task(self, declared):
        @options(schedule="0 7 * * *")
        def report(): ...

        ((number, told, hint),) = errors()

        assert number == "E031"
        assert "test_a_function_that_is_no_task.<locals>.report schedules" in told
        assert "Put @task above @options" in hint

    def test_a_key_that_a_processor_has(self, declared):
        declared(tasks.write, schedule=hourly("all"))
        name = {"NAME": WRITE, "SCHEDULE": HOURLY}
        registry.register(type("Named", (Write,), {"__module__": __name__, **name}))

        ((number, told, _),) = errors()

        assert number == "E026"
        assert f"The schedule '{WRITE}'" in told


class TestMadeAtRunTime:
    def test_it_ticks_with_its_arguments(self, declared):
        row = schedules.create("acme", partial(tasks.write.enqueue, "acme"), HOURLY)
        test_timetable.late()

        test_timetable.Host().turn()

        assert (row.processor, row.queue_name) == (WRITE, "default")
        assert row.arguments == '{"args":["acme"],"kwargs":{}}'
        found = Task.objects.get()
        assert (found.args, found.arguments["schedule"]) == (["acme"], ":acme")
        run_pending()
        assert marks() == ["acme"]

    def test_it_stays_in_the_queue_that_the_task_had(self, declared, settings, monkeypatch):
        """As one of a processor does: until it is made again."""
        settings.TASKS = {"default": PARTISAN | {"QUEUES": []}}
        schedules.create("acme", partial(tasks.write.enqueue, "acme"), HOURLY)
        monkeypatch.setattr(tasks, "write", tasks.write.using(queue_name="elsewhere"))
        processor_of.cache_clear()
        test_timetable.late()

        test_timetable.Host().turn()

        assert Task.objects.get().queue_name == "default"

    def test_arguments_may_be_bound_one_after_the_other_or_be_none(self):
        write = partial(partial(tasks.unique_by_account.enqueue, "acme"), note="new")

        assert schedules.create("some", write, HOURLY).arguments == (
            '{"args":["acme"],"kwargs":{"note":"new"}}'
        )
        none = asyncio.run(schedules.acreate("none", tasks.cancel.enqueue, Cron("0 7 * * *")))
        assert none.arguments == '{"args":[],"kwargs":{}}'

    def test_the_same_name_may_be_a_processors_next(self):
        schedules.create("acme", partial(tasks.write.enqueue, "acme"), HOURLY)
        schedules.create("acme", Write("acme"), HOURLY)

        assert Schedule.objects.get().processor == "Write"
        assert schedules.delete("acme")

    @pytest.mark.parametrize(
        ("call", "words"),
        [
            (tasks.write, r"is a task; say with what .*create\(\"acme\", partial\(write\.enqueue"),
            (partial(tasks.write.enqueue), "missing a required argument: 'text'"),
            (partial(tasks.write.enqueue, "a", "b"), "too many positional arguments"),
            (partial(tasks.write.enqueue, {1}), r"args\[0\] is of type set"),
            (partial(tasks.write.aenqueue, "a"), "enqueues the call of a processor"),
            (partial(print, "a"), "enqueues the call of a processor"),
            (Write, "Write is a class; make a call first"),
            (None, "and nothing of type NoneType"),
        ],
    )
    def test_what_is_no_call_is_refused(self, call, words):
        with pytest.raises(TypeError, match=words):
            schedules.create("acme", call, HOURLY)

        assert not Schedule.objects.exists()

    def test_arguments_that_are_too_large_are_refused(self):
        with pytest.raises(ArgumentsTooLarge, match="may be 65,536"):
            schedules.create("acme", partial(tasks.write.enqueue, "x" * 2**16), HOURLY)

    def test_what_using_changes_cannot_be_kept_and_is_refused(self):
        urgent = tasks.write.using(priority=50)

        with pytest.raises(TypeError, match=r"as @task declares it, and keeps nothing of using"):
            schedules.create("acme", partial(urgent.enqueue, "a"), HOURLY)

        same = tasks.write.using(priority=0)
        assert schedules.create("acme", partial(same.enqueue, "a"), HOURLY).processor == WRITE

    def test_one_of_another_backend_is_refused(self, settings):
        backends = type(tasks.write).__module__.removesuffix(".base") + ".backends"
        dummy = {"BACKEND": f"{backends}.dummy.DummyBackend"}
        settings.TASKS = {"default": PARTISAN, "other": dummy}
        other = tasks.write.using(backend="other")

        with pytest.raises(TypeError, match=r"backend='other', which is no PartisanBackend"):
            schedules.create("acme", partial(other.enqueue, "a"), HOURLY)

    def test_supervisors_tick_it(self):
        schedules.create("acme", partial(tasks.write.enqueue, "acme"), Every(seconds=0.3))

        with live_supervisor(WORKERS_COUNT=1):
            wait_until(lambda: marks().count("acme") > 2)
            wait_until(lambda: Schedule.objects.get().last_success)


class TestAdmin:
    @pytest.fixture
    def made(self, declared):
        return schedules.create("acme", partial(tasks.write.enqueue, "acme"), HOURLY)

    @pytest.fixture
    def run_once(self, admin_client):
        def run_once(row):
            where = reverse("admin:partisan_async_schedule_changelist")
            chosen = {"action": "run_once", "_selected_action": row.pk}
            return admin_client.post(where, chosen, follow=True).text

        return run_once

    def test_one_that_was_made_is_run_once(self, made, run_once):
        assert "is enqueued." in run_once(made)
        assert "waits already." in run_once(made)

        run_pending()
        assert marks() == ["acme"]

    def test_one_in_the_code_is_run_once_with_its_arguments(self, declared, run_once):
        declared(tasks.write, schedules={"eu": hourly("eu")})
        Host().turn()

        assert "is enqueued." in run_once(Schedule.objects.get())

        run_pending()
        assert marks() == ["eu"]

    def test_it_is_listed_as_in_the_code(self, declared, admin_client):
        declared(tasks.write, schedules={"eu": hourly("eu")})
        Host().turn()
        page = reverse("admin:partisan_async_schedule_change", args=[quote(f"{WRITE}:eu")])

        assert (
            "Every 3600 seconds"
            in admin_client.get(reverse("admin:partisan_async_schedule_changelist")).text
        )
        assert 'class="partisan-times"' in admin_client.get(page).text

    def test_one_that_was_made_is_changed_and_then_ticks_as_the_new_one(self, made, admin_client):
        page = reverse("admin:partisan_async_schedule_edit", args=[quote(made.pk)])
        filled = {"arguments": '{"args": ["new"], "kwargs": {}}', "cron": "", "seconds": "60"}

        told = admin_client.post(page, filled, follow=True).text

        assert "is kept." in told
        test_timetable.late()
        test_timetable.Host().turn()
        run_pending()
        assert marks() == ["new"]

    def test_arguments_that_the_function_does_not_take_are_told(self, made, admin_client):
        page = reverse("admin:partisan_async_schedule_edit", args=[quote(made.pk)])
        filled = {"arguments": '{"args": [], "kwargs": {}}', "cron": "", "seconds": "60"}

        told = admin_client.post(page, filled).text

        assert "missing a required argument" in told
