"""Typed calls: refused where they are made, or run with what was passed."""

import datetime
import decimal
import json
import re
import uuid
from unittest import mock

import pytest
from django.core.checks import run_checks
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from partisan_async import registry, signals
from partisan_async.enqueue.corrected import check_arguments
from partisan_async.enqueue.parameters import parameters_of
from partisan_async.models import Task
from partisan_async.policy import MAX_UNRECOGNISED, Deferred
from partisan_async.processor import BaseTaskProcessor
from partisan_async.testing import (
    assert_enqueued,
    assert_not_enqueued,
    live_supervisor,
    perform,
    run_pending,
)
from tests.conftest import ended, marks, wait_until
from tests.testapp.models import Mark
from tests.testapp.partisan_tasks import (
    AsyncFollow,
    AsyncPay,
    AtomicFollow,
    ByPlace,
    Flagged,
    Follow,
    FollowIfThere,
    NamedPay,
    Nothing,
    NothingTyped,
    Pay,
    ReadsAnother,
    Spread,
    Weigh,
    Weight,
)

ORDER = uuid.UUID(int=7)
NOON = datetime.datetime(2026, 10, 25, 12, tzinfo=datetime.UTC)


def write_by_hand(task, **arguments):
    """Leave a row as another version of the code would have written it."""
    Task.objects.filter(pk=task.pk).update(arguments={"args": [], "kwargs": {}} | arguments)


@pytest.mark.django_db(transaction=True)
class TestInAWorker:
    def test_run_gets_what_was_passed(self):
        with live_supervisor():
            tasks = [
                Pay(ORDER, at=NOON, tags={"a", "b"}).delay(),
                Pay(order=ORDER).delay(),
                AsyncPay(ORDER, amount=decimal.Decimal("1.50")).delay(),
            ]
            wait_until(lambda: ended(*tasks))

        results = [Task.objects.get(pk=task.pk).result for task in tasks]
        assert results == [
            repr((ORDER, NOON, ["a", "b"])),
            repr((ORDER, None, [])),
            repr((ORDER, decimal.Decimal("1.50"))),
        ]

    def test_a_model_instance_is_fetched_for_the_run(self):
        one, two = Mark.objects.create(text="one"), Mark.objects.create(text="two")
        tasks = [Follow(one).delay(), AsyncFollow([one, two]).delay(), AtomicFollow(two).delay()]
        Mark.objects.filter(pk=one.pk).update(text="changed")

        with live_supervisor():
            wait_until(lambda: ended(*tasks))

        assert {"changed followed", "changed and two", "two followed in True"} < set(marks())

    def test_a_row_that_is_gone_ends_the_task_as_its_processor_says(self):
        mark = Mark.objects.create(text="gone")
        tasks = [each(mark).delay() for each in (Follow, FollowIfThere, AtomicFollow)] + [
            AsyncFollow([mark]).delay()
        ]
        mark.delete()

        with live_supervisor():
            wait_until(lambda: ended(*tasks))

        rows = [Task.objects.get(pk=task.pk) for task in tasks]
        assert [row.status for row in rows] == ["error", "finished", "error", "error"]
        assert rows[0].errors[0]["exception_class"] == "partisan_async.exceptions.RowMissing"
        assert f"testapp.Mark {mark.pk or ''}".strip() in rows[0].errors[0]["message"]
        for row in (rows[0], *rows[2:]):  # how the call was read is nothing to a user
            assert "asgiref" not in row.errors[0]["traceback"]
            assert "partisan_async/" not in row.errors[0]["traceback"]
        assert marks() == []


@pytest.mark.django_db
class TestRowsOfOtherCode:
    @pytest.mark.parametrize("processor", [Pay, AsyncPay])
    def test_a_call_that_does_not_fit_is_put_off_and_ends_in_error_at_last(self, processor):
        """Another supervisor may have the code that wrote it; here it never started."""
        task = processor(ORDER).delay()
        write_by_hand(task, args=[str(ORDER)], kwargs={"new": 1})

        (ran,) = run_pending()

        assert isinstance(ran.decision, Deferred)
        assert (ran.task.unrecognised, ran.task.tries, ran.task.status) == (1, 0, "scheduled")
        assert "there is no parameter new" in ran.decision.failure.message

        Task.objects.update(unrecognised=MAX_UNRECOGNISED, execute_after=timezone.now())
        (ran,) = run_pending(errors="keep")

        assert ran.task.status == "error"
        (error,) = ran.task.errors
        assert error["exception_class"] == "partisan_async.exceptions.ArgumentsDoNotFit"

    @pytest.mark.parametrize("processor_class", ["testapp.Named", "Before"])
    def test_so_is_one_of_a_processor_that_rows_name_otherwise(self, processor_class):
        """By its NAME, and by one of before."""
        task = NamedPay(ORDER).delay()
        write_by_hand(task, args=[5])
        Task.objects.update(processor_class=processor_class)

        (ran,) = run_pending()

        assert isinstance(ran.decision, Deferred)
        assert (ran.task.unrecognised, ran.task.status) == (1, "scheduled")

    def test_a_misfit_that_run_comes_upon_is_an_error_of_the_run(self):
        """Also where it is of the same processor: to put the task off would run it by halves."""
        task = ReadsAnother().delay()

        (ran,) = run_pending(errors="keep")

        assert (ran.task.pk, ran.task.status, ran.task.unrecognised) == (task.pk, "error", 0)

    @pytest.mark.parametrize("processor", [Pay, AsyncPay])
    def test_no_start_is_told_of_a_run_that_is_not(self, processor):
        """Nobody would tell of its end: who counts the runs that go on would never come to 0."""
        started = []

        def hear(task, **_):
            started.append(task.pk)

        bad, good = processor(ORDER).delay(), processor(order=ORDER).delay()
        write_by_hand(bad, args=[5])
        signals.task_started.connect(hear)
        try:
            run_pending()
        finally:
            signals.task_started.disconnect(hear)

        assert started == [good.pk]

    def test_a_traceback_shows_none_of_the_reading(self):
        mark = Mark.objects.create(text="gone")
        Follow(mark).delay()
        mark.delete()

        (ran,) = run_pending(errors="keep")

        assert (
            ran.task.errors[0]["traceback"].splitlines()[0].startswith("partisan_async.exceptions")
        )

    @pytest.mark.parametrize(
        "args", [["no uuid"], [5], [None], [[]], [], [str(ORDER), 1]], ids=json.dumps
    )
    def test_a_value_that_is_not_of_the_type_is_an_error_of_that_task_alone(self, args):
        bad, good = Pay(ORDER).delay(), Pay(order=ORDER).delay()
        write_by_hand(bad, args=args)

        decisions = {ran.task.pk: ran.decision for ran in run_pending()}

        assert isinstance(decisions[bad.pk], Deferred)
        assert Task.objects.get(pk=good.pk).status == "finished"

    def test_no_value_is_in_what_is_told(self):
        """Errors go to logs and to Sentry, and arguments may be private."""
        task = Pay(ORDER).delay()
        write_by_hand(task, args=["a secret"])

        (ran,) = run_pending()

        assert "secret" not in ran.decision.failure.message

    @pytest.mark.parametrize("key", [4.7, [4], [[True]], True, None, {"key": 4}])
    def test_what_is_no_key_of_a_row_is_none(self, key):
        """It must not be taken for one, as a list of one was."""
        task = Follow(Mark.objects.create(pk=4, text="four")).delay()
        write_by_hand(task, args=[key])

        (ran,) = run_pending()

        assert isinstance(ran.decision, Deferred)

    def test_what_a_class_of_the_project_raises_puts_it_off(self):
        task = Weigh(Weight(5)).delay()
        write_by_hand(task, args=[{"grams": -1}])

        (ran,) = run_pending()

        assert isinstance(ran.decision, Deferred)
        with pytest.raises(TypeError, match="the stored weight is not what run"):
            check_arguments(Weigh, '{"args": [{"grams": -1}], "kwargs": {}}', "default")


@pytest.mark.django_db
class TestWrongCalls:
    @pytest.mark.parametrize(
        ("make", "told"),
        [
            (lambda: Pay("7").delay(), "order is of type str, and run() takes UUID"),
            (lambda: Pay().delay(), "order is missing"),
            (lambda: Pay(ORDER, tgas=1).delay(), "did you mean tags?"),
            (lambda: Pay.bulk_delay([Pay(ORDER), Pay(5)]), "Call 1: Pay: order is of type int"),
            (lambda: Follow(Mark(text="x")).delay(), "is not saved"),
        ],
    )
    def test_they_raise_where_they_are_made_and_enqueue_nothing(self, make, told):
        with pytest.raises((TypeError, ValueError)) as refused:
            make()

        assert told in str(refused.value)
        assert not Task.objects.exists()

    async def test_from_async_code_too(self):
        with pytest.raises(TypeError, match="order is of type str"):
            await Pay("7").adelay()


@pytest.mark.django_db
def test_a_mock_in_place_of_run_is_not_remembered():
    """Else each later call would be unchecked, and run without arguments."""

    class Mocked(BaseTaskProcessor):
        def run(self, order: uuid.UUID): ...

    with mock.patch.object(Mocked, "run"):
        parameters_of(Mocked)

    assert parameters_of(Mocked) is not None


@pytest.mark.django_db
def test_it_makes_the_statements_of_an_untyped_one():
    """Types are checked without the database."""
    told = []
    for call in (Nothing(5), NothingTyped(5)):
        with CaptureQueriesContext(connection) as caught:
            call.delay()
            run_pending()
        told.append([re.sub(r"\d+|'[^']*'", "…", each["sql"]) for each in caught])

    assert told[0] == told[1]


BERLIN = datetime.timezone(datetime.timedelta(hours=2))


@pytest.mark.django_db
class TestParametersForAnUntypedRun:
    """A processor is given them while its calls wait."""

    @pytest.fixture
    def moved(self, monkeypatch):
        """Return what registers the processor with such a parameter, or untyped, and makes it."""
        got = []

        def moved(value, hint=None):
            def untyped(self): ...

            def typed(self, value):
                got.append(value)

            typed.__annotations__ = {"value": hint}
            body = {"run": typed if hint else untyped}
            made = type("Moved", (BaseTaskProcessor,), body)
            monkeypatch.setitem(registry._processors, "Moved", made)
            return made(value)

        moved.got = got
        return moved

    @pytest.mark.parametrize(
        ("hint", "value", "before"),
        [
            (uuid.UUID, ORDER, str(ORDER)),
            (datetime.datetime, NOON.astimezone(BERLIN), NOON.astimezone(BERLIN).isoformat()),
            (datetime.date, NOON.date(), NOON.date().isoformat()),
            (datetime.time, datetime.time(12, 30), "12:30:00"),
            (decimal.Decimal, decimal.Decimal("9.90"), "9.90"),
            (int | None, 5, 5),
            (str, "ö\u2028", "ö\u2028"),
            (float, 1.5, 1.5),
            (bool, True, True),
            (list[float], [0.1, 1e300], [0.1, 1e300]),
            (dict[str, int | None], {"b": 1, "a": None}, {"b": 1, "a": None}),
        ],
        ids=repr,
    )
    def test_calls_of_the_same_values_are_twins_and_old_rows_run(self, moved, hint, value, before):
        waits = moved(before).delay()

        assert moved(value, hint).delay().pk == waits.pk
        run_pending()

        assert moved.got == [value]
        assert type(moved.got[0]) is type(value)

    def test_a_datetime_at_offset_zero_is_no_twin_and_is_read(self, moved):
        """It is stored with ``Z``, and ``isoformat()`` has ``+00:00``."""
        waits = moved(NOON.isoformat()).delay()

        assert moved(NOON, datetime.datetime).delay().pk != waits.pk
        run_pending()

        assert moved.got == [NOON, NOON]


class TestChecks:
    @pytest.fixture
    def errors(self):
        """Return the errors of a processor's declaration, by the check."""
        made = []

        def errors_of(**body):
            made.append(type("Declared", (BaseTaskProcessor,), body))
            registry.register(made[0])
            return [e for e in run_checks() if e.obj is made[0]]

        yield errors_of
        for each in made:
            registry._processors.pop(each.__name__)

    def test_a_parameter_that_cannot_be(self, errors):
        def run(self, value: "NoSuchName", other: datetime.date | str): ...  # noqa: F821

        first, second = errors(run=run)

        assert first.id == second.id == "partisan_async.E017"
        assert "annotation of value cannot be resolved" in first.msg
        assert "Import what it names" in first.hint
        assert "annotation of other is a union" in second.msg

    @pytest.mark.parametrize("names", ["password", 5, None, [5]])
    def test_sensitive_that_is_no_list_of_names_is_one_error(self, errors, names):
        """And not one for each letter."""
        (error,) = errors(run=lambda self, name: None, SENSITIVE=names)

        assert error.id == "partisan_async.E004"

    def test_sensitive_names_what_the_init_of_an_untyped_run_takes(self, errors):
        """Only what is passed by name is masked there."""

        def init(self, name, *, password):
            BaseTaskProcessor.__init__(self, name, password=password)

        (error,) = errors(run=lambda self: None, __init__=init, SENSITIVE=["password", "pasword"])

        assert error.id == "partisan_async.E017"
        assert (
            error.msg
            == "Declared.SENSITIVE names 'pasword', which its __init__() does not take by name."
        )
        assert error.hint == "Name those of (name, *, password)."

    @pytest.mark.parametrize(
        "init",
        [
            None,
            lambda self, name, **more: None,
            lambda self, name, password: None,
        ],
    )
    def test_one_that_may_be_taken_is_none(self, errors, init):
        body = {"__init__": init} if init else {}

        assert not errors(run=lambda self: None, SENSITIVE=["password"], **body)

    @pytest.mark.parametrize("names", [["name"], ["password"]])
    def test_what_cannot_be_passed_by_name_is_not_hidden(self, errors, names):
        def init(self, name, /, *password): ...

        (error,) = errors(run=lambda self: None, __init__=init, SENSITIVE=names)

        assert error.id == "partisan_async.E017"

    def test_on_missing_that_cannot_be(self, errors):
        (error,) = errors(run=lambda self: None, ON_MISSING="ignore")

        assert error.id == "partisan_async.E004"
        assert error.hint == "It must be 'error' or 'finish'."


@pytest.mark.django_db
class TestAssertions:
    @pytest.fixture(autouse=True)
    def task(self):
        return Pay(ORDER, tags={"b", "a"}).delay()

    @pytest.mark.parametrize(
        "wanted",
        [
            {"order": ORDER},
            {"tags": {"a", "b"}, "order": ORDER},
            {"at": None},
            {"args": [ORDER]},
            {"kwargs": {"tags": {"a", "b"}}},
            {"args": [ORDER], "tags": {"b", "a"}},
        ],
    )
    def test_a_call_is_found_by_its_parameters(self, task, wanted):
        assert assert_enqueued(Pay, **wanted) == task

    @pytest.mark.parametrize(
        "wanted",
        [
            {"order": uuid.UUID(int=8)},
            {"tags": {"a"}},
            {"at": NOON},
            {"args": []},
            {"kwargs": {}},
            {"kwargs": {"tags": {"a", "b"}, "at": None}},
        ],
    )
    def test_another_is_not(self, wanted):
        with pytest.raises(AssertionError, match="These wait:"):
            assert_enqueued(Pay, **wanted)
        assert_not_enqueued(Pay, **wanted)

    def test_the_message_says_what_was_looked_for(self):
        with pytest.raises(AssertionError, match=r"No task waits that is Pay, order=UUID"):
            assert_enqueued(Pay, order=uuid.UUID(int=8), at=None)

    @pytest.mark.parametrize(
        ("wanted", "told"),
        [
            ({"order": "7"}, "order is of type str"),
            ({"oder": ORDER}, "Pay has no parameter oder"),
            ({"args": ["7"]}, "order is of type str"),
            ({"args": [ORDER, 1]}, "does not take the argument 1"),
        ],
    )
    def test_what_no_call_could_pass_raises(self, wanted, told):
        """An assertion that nothing such waits would hold for ever."""
        with pytest.raises(TypeError, match=told):
            assert_not_enqueued(Pay, **wanted)

    def test_so_it_does_where_nothing_waits(self):
        Task.objects.all().delete()

        with pytest.raises(TypeError, match="order is of type str"):
            assert_not_enqueued(Pay, order="7")

    def test_parameters_that_take_many_are_asked_for_by_their_names(self):
        task = Spread(1, 1, a="x", b="x").delay()

        assert assert_enqueued(Spread, n=1) == task
        assert assert_enqueued(Spread, k="x") == task
        assert assert_enqueued(Spread, b="x") == task
        assert_not_enqueued(Spread, n=2)
        assert_not_enqueued(Spread, c="x")
        with pytest.raises(TypeError, match="n is of type str"):
            assert_not_enqueued(Spread, n="x")

    def test_one_by_position_alone_is_another_than_what_has_its_name(self):
        task = ByPlace(5, size="x").delay()

        assert assert_enqueued(ByPlace, size=5) == task
        assert assert_enqueued(ByPlace, size=5, k="x") == task
        assert_not_enqueued(ByPlace, size=6)

    @pytest.mark.parametrize(
        ("passed", "others"),
        [(1, [True, 2, "1"]), (True, [1, False]), ([0], [[False]]), ({"a": 1}, [{"a": True}])],
    )
    def test_true_is_not_one(self, passed, others):
        """JSON and ``run()`` tell them apart, though Python says that they are equal."""
        typed, untyped = Flagged(passed).delay(), Nothing(passed, flag=passed).delay()

        assert assert_enqueued(Flagged, flag=passed) == typed
        assert assert_enqueued(Flagged, args=[passed], off=False) == typed
        assert assert_enqueued(Nothing, args=[passed], kwargs={"flag": passed}) == untyped
        for other in others:
            assert_not_enqueued(Flagged, flag=other)
            assert_not_enqueued(Flagged, args=[other])
            assert_not_enqueued(Nothing, args=[other])
            assert_not_enqueued(Nothing, kwargs={"flag": other})
        assert_not_enqueued(Flagged, off=0)

    def test_an_untyped_one_has_no_parameters_to_ask_for(self):
        with pytest.raises(TypeError, match="its run\\(\\) has no parameters"):
            assert_enqueued(Nothing, number=5)

    def test_perform_checks_and_decodes(self):
        assert perform(Pay, [ORDER]).decision.result == json.dumps(repr((ORDER, None, [])))
        with pytest.raises(TypeError, match="order is of type str"):
            perform(Pay, ["7"])
