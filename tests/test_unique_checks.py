"""Which ``UNIQUE`` can be, and by which parameters."""

import datetime

import pytest
from django.core.checks import run_checks

from partisan_async import registry
from partisan_async.enqueue.arguments import encode
from partisan_async.enqueue.keys import keys_of
from partisan_async.models import Task
from partisan_async.schedule import Every
from partisan_async.task_processor import TaskProcessor
from partisan_async.unique import Unique

pytestmark = pytest.mark.django_db


class TestChecks:
    @pytest.fixture
    def errors(self):
        """Return the errors of a declaration, by the check."""
        made = []

        def errors_of(base=TaskProcessor, **body):
            made.append(type("Declared", (base,), {"run": run, **body}))
            registry.register(made[-1])
            found = [each for each in run_checks() if each.obj is made[-1]]
            registry._processors.pop("Declared")
            return [
                (each.id.removeprefix("partisan_async."), each.msg, each.hint) for each in found
            ]

        def run(self, account: str, *notes: str, **more: str): ...

        return errors_of

    @pytest.mark.parametrize(
        ("rule", "hint"),
        [
            (("account",), "It must be Unique(…) of partisan_async.unique, or None."),
            (Unique(by="account"), "It has by='account', which takes several names; write"),
            (Unique(by=("a", "a")), "names 'a' twice; leave one out"),
            (Unique(by=(-1,)), "must be a tuple of names"),
            (Unique(by=(True,)), "must be a tuple of names"),
            (Unique(by=5), "must be a tuple of names"),
            (Unique(while_running=1), "It has while_running=1, which must be True or False."),
            (Unique(within_seconds=0), "It has within_seconds=0, which must be a number of seco"),
            (Unique(within_seconds=10**9), "up to ten years, or None."),
            (Unique(on_twin="newest"), "which must be 'ignore' or 'replace' or 'sooner'."),
        ],
    )
    def test_a_value_that_cannot_be(self, errors, rule, hint):
        ((number, told, given),) = errors(UNIQUE=rule)

        assert number == "E021"
        assert told.startswith("Declared.UNIQUE is ")
        assert hint in given

    @pytest.mark.parametrize("by", [("acount",), (0,), ("account", "self"), ("note",)])
    def test_by_what_is_no_parameter(self, errors, by):
        ((number, told, hint),) = errors(UNIQUE=Unique(by=by))

        assert (number, hint) == ("E022", "Name those of run(account, *notes, **more).")
        assert "which is no parameter of its run()" in told

    def test_by_what_a_tick_does_not_pass(self, errors):
        body = {"run": lambda self: None, "SCHEDULE": "0 7 * * *"}

        assert errors(**body, UNIQUE=Unique(by=())) == []
        ((number, told, _),) = errors(**body, UNIQUE=Unique(by=("account",)))

        assert number == "E022"
        assert "which a tick of its SCHEDULE does not pass" in told

    def test_by_what_one_of_several_schedules_does_not_pass(self, errors):
        several = {"eu": Every(seconds=60, kwargs={"account": "eu"})}
        body = {"run": lambda self: None, "UNIQUE": Unique(by=("account",))}

        assert errors(**body, SCHEDULES=several) == []
        assert errors(**body, SCHEDULE=several["eu"]) == []
        ((number, told, _),) = errors(**body, SCHEDULES=several | {"us": Every(seconds=60)})

        assert number == "E022"
        assert "by 'account', which a tick of its schedule 'us' does not pass" in told

    @pytest.mark.parametrize("for_params", [True, False])
    def test_beside_its_short_form(self, errors, for_params):
        """Neither an inherited one nor one that was meant to switch it off does anything."""
        rule = Unique(by=("account",))
        base = type("Base", (TaskProcessor,), {"UNIQUE": rule})
        other = type("Other", (TaskProcessor,), {"UNIQUE_FOR_PARAMS": for_params})

        ((here, told, hint),) = errors(UNIQUE=rule, UNIQUE_FOR_PARAMS=for_params)
        ((below, *_),) = errors(base, UNIQUE_FOR_PARAMS=for_params)

        assert (here, below) == ("E023", "E023")
        assert told == "Declared.UNIQUE_FOR_PARAMS does nothing where UNIQUE is set."
        assert "UNIQUE = None" in hint
        assert errors(base, UNIQUE_FOR_PARAMS=for_params, UNIQUE=None) == []
        assert errors(other, UNIQUE=rule) == []
        assert errors(base) == []

    def test_all_parameters_may_be_named(self, errors):
        assert errors(UNIQUE=Unique(by=("account", "notes", "more"))) == []
        assert errors(UNIQUE=Unique(by=["account"], within_seconds=0.5)) == []


class TestKinds:
    """By parameters of each kind, and of types that are stored in a way of their own."""

    @pytest.fixture
    def same(self):
        made = []

        def same_of(run, by, *calls):
            made.append(type("Kinds", (TaskProcessor,), {"run": run, "UNIQUE": Unique(by=by)}))
            registry._processors["Kinds"] = made[-1]
            pks = [made[-1](*args, **kwargs).delay().pk for args, kwargs in calls]
            return [pks.index(pk) for pk in pks]

        yield same_of
        registry._processors.pop("Kinds")

    def test_all_that_are_passed_by_position_or_by_name(self, same):
        def run(self, account: str, *notes: str, **more: str): ...

        calls = (
            (("a",), {}),
            (("a", "n"), {}),
            (("a",), {"x": "1"}),
            (("a", "n"), {"x": "1"}),
            (("b", "n"), {"x": "1"}),
        )
        assert same(run, ("notes",), *calls) == [0, 1, 0, 1, 1]
        assert same(run, ("more",), *calls) == [0, 0, 2, 2, 2]
        assert same(run, ("account", "notes", "more"), *calls) == [0, 1, 2, 3, 4]

    def test_a_name_that_is_taken_by_position_alone(self, same):
        def run(self, account: str, /, **more: str): ...

        calls = ((("a",), {}), (("a",), {"account": "b"}), (("b",), {"account": "a"}))
        assert same(run, ("account",), *calls) == [0, 0, 2]

    def test_a_default_that_no_call_could_pass(self, same):
        def run(self, at: datetime.date = None): ...  # noqa: RUF013  as many write it

        day = datetime.date(2026, 1, 2)
        calls = (((), {}), ((), {}), ((day,), {}), ((), {"at": day}))
        assert same(run, ("at",), *calls) == [0, 0, 2, 2]

    def test_a_default_that_is_stored_otherwise_than_it_is_written(self, same):
        def run(self, at: datetime.date = datetime.date(2026, 1, 2)): ...

        calls = (((), {}), ((datetime.date(2026, 1, 2),), {}), ((datetime.date(2026, 1, 3),), {}))
        assert same(run, ("at",), *calls) == [0, 0, 2]

    def test_a_number_that_rows_give_back_in_another_way(self, same):
        def run(self, size: float = 1e16): ...

        assert same(run, ("size",), ((), {}), ((1e16,), {}), ((2e16,), {})) == [0, 0, 2]
        row = Task.objects.last()
        assert type(row.args[0]) is int
        keys = keys_of("Kinds", [encode(tuple(row.args), row.kwargs)])
        assert list(keys) == [bytes(row.digest)]

    def test_a_row_that_does_not_pass_what_has_no_default(self, same):
        """It is another release's, and people look at it."""

        def run(self, account: str): ...

        same(run, ("account",), (("a",), {}))

        without, other = (list(keys_of("Kinds", [encode(args, {})])) for args in ((), ("a",)))
        assert without != other
