"""Limits of Django's own tasks, by their options."""

from functools import partial

import pytest
from django.core.checks import run_checks
from django.utils import timezone

from partisan_async import registry, schedules, steering
from partisan_async.declared import limit_of
from partisan_async.limits import Limit, Rate
from partisan_async.models import Task
from partisan_async.schedule import Every
from partisan_async.tasks_backend import options
from partisan_async.unique import Unique
from tests import test_scheduled_functions, test_ticker, test_timetable
from tests.conformance.api import TaskResultStatus
from tests.test_limited_enqueue import LATER, row
from tests.test_ticker import HOURLY
from tests.testapp import tasks

pytestmark = pytest.mark.django_db(transaction=True)

only = test_ticker.only
declared = test_scheduled_functions.declared

WRITE = "tests.testapp.tasks.write"
PER_KEY = {"limit": Limit(running_per_key=1), "limit_key": lambda text: text}


def rows():
    return [row(task) for task in Task.objects.order_by("pk")]


def test_a_call_waits_for_the_limit_by_the_key_of_its_parameters(declared):
    write = declared(tasks.write, **PER_KEY)

    results = [write.enqueue("acme"), write.enqueue(text=5), write.using(priority=5).enqueue("")]

    assert rows() == [
        ("limited", WRITE, "acme", 10),
        ("limited", WRITE, "5", 10),
        ("limited", WRITE, "", 5),
    ]
    assert {result.status for result in results} == {TaskResultStatus.READY}


def test_one_for_later_is_scheduled_first(declared):
    declared(tasks.write, **PER_KEY).using(run_after=LATER).enqueue("acme")

    assert rows() == [("scheduled", WRITE, "acme", 10)]


def test_in_order_by_a_name_of_its_own(declared):
    declared(tasks.write, limit=Limit(in_order=True, name="x"), limit_key=lambda: "all").enqueue(
        "a"
    )

    assert rows() == [("limited", "x", "all", 0)]


def test_without_keys_no_function_is_needed(declared):
    write = declared(tasks.write, limit=Limit(running=1))
    write.enqueue("acme")

    assert rows() == [("limited", WRITE, None, 10)]
    assert limit_of(registry.get(WRITE)) == (WRITE, Limit(running=1))


def test_with_unique_it_counts(declared):
    write = declared(tasks.write, **PER_KEY, unique=Unique(by=("text",), on_twin="replace"))

    first, again = write.enqueue("acme"), write.enqueue("acme")

    assert (first.id, rows()) == (again.id, [("limited", WRITE, "acme", 10)])


def test_in_order_it_stays_in_its_queue(declared, settings):
    settings.TASKS = {"default": test_scheduled_functions.PARTISAN | {"QUEUES": []}}
    write = declared(tasks.write, limit=Limit(in_order=True), limit_key=lambda text: text)

    with pytest.raises(ValueError, match=r"The limit of tests.testapp.tasks.write is in order"):
        write.using(queue_name="elsewhere").enqueue("acme")
    declared(tasks.write, **PER_KEY).using(queue_name="elsewhere").enqueue("acme")

    assert rows() == [("limited", WRITE, "acme", 10)]


@pytest.mark.parametrize(
    ("key", "kind", "told"),
    [
        (lambda text: 5.0, TypeError, "returned is of type float"),
        (lambda text: "x" * 256, ValueError, "returned has 256 characters"),
        (lambda text: {}[text], ValueError, "raised KeyError"),
    ],
)
def test_a_key_that_cannot_be_is_refused(declared, key, kind, told):
    write = declared(tasks.write, limit=Limit(running_per_key=1), limit_key=key)

    with pytest.raises(kind, match=rf"@options\(limit_key=…\) of {WRITE} {told}"):
        write.enqueue("acme")
    assert rows() == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"limit": 5}, r"@options\(limit=5\): it must be Limit\(…\)"),
        ({"limit": Limit()}, "limits nothing"),
        ({"limit": Limit(running=0)}, "has running=0, which must be a whole number"),
        ({"limit": Limit(running=1), "limit_key": 5}, r"returns text, a whole number or a UUID"),
        ({"limit_key": lambda: 5}, "is the key under a limit: give limit, too"),
        (
            {"limit": Limit(in_order=True, running_per_key=1), "limit_key": lambda: 5},
            "leave running_per_key out",
        ),
        ({"limit": Limit(running_per_key=1)}, "has running_per_key, and no limit_key"),
        ({"limit": Limit(rates_per_key=[Rate(1, per_seconds=1)])}, "has rates_per_key, and no"),
        ({"limit": Limit(in_order=True)}, "has in_order, and no limit_key"),
        ({"limit": Limit(fair=True)}, "has fair, and no limit_key"),
        (
            {"limit": Limit(fair=True), "limit_key": lambda who: who},
            r"@options\(limit_key=…\) is by 'who', which is no parameter of func",
        ),
    ],
)
def test_what_cannot_be_is_refused_at_import(given, told):
    def function(text): ...

    with pytest.raises(TypeError, match=told):
        options(**given)(function)


def test_an_async_key_is_refused():
    async def key(text): ...

    with pytest.raises(TypeError, match="must be a plain function"):
        options(limit=Limit(fair=True), limit_key=key)


def test_a_limit_that_is_shared_is_checked(declared):
    declared(tasks.write, limit=Limit(running=1, name="api"))
    declared(tasks.awrite, limit=Limit(running=2, name="api"))

    found = [each.id for each in run_checks() if each.obj is registry.get(WRITE)]

    assert found == ["partisan_async.E036"]


def test_ticks_of_its_options_have_the_key_of_their_kwargs(declared):
    eu = Every(seconds=3600, kwargs={"text": "eu"})
    declared(tasks.write, **PER_KEY, schedules={"eu": eu})
    test_ticker.Host().turn()
    test_ticker.late(f"{WRITE}:eu")
    test_ticker.Host().turn()

    assert rows() == [("limited", WRITE, "eu", 10)]


def test_ticks_of_one_made_at_run_time(declared):
    """With the key that the schedule was made with, if it has keys."""
    for given, expected in (
        (PER_KEY, ("limited", WRITE, "acme", 10)),
        ({"limit": Limit(running=1)}, ("limited", WRITE, None, 10)),
    ):
        test_scheduled_functions.processor_of.cache_clear()
        write = declared(tasks.write, **given)
        schedules.create("acme", partial(write.enqueue, "acme"), HOURLY)
        test_timetable.late("acme")
        test_timetable.Host().turn()

        assert rows() == [expected]
        Task.objects.all().delete()


def test_as_an_on_error_it_waits_for_its_limit(declared):
    told = declared(tasks.told_with_context, limit=Limit(running=1, name="mail"))
    call = registry.get(told.module_path)._call_on_error()

    assert (call.limit_name, call.limit_key, call.limit_rank) == ("mail", None, call.priority)


def test_with_other_arguments_its_key_is_asked_for_anew(declared):
    write = declared(tasks.write, **PER_KEY)
    write.enqueue("acme")
    Task.objects.update(status="error", finished_at=timezone.now())

    steering.retry([Task.objects.get().pk], arguments={"args": ["bee"], "kwargs": {}})

    assert rows() == [("limited", WRITE, "bee", 10)]
