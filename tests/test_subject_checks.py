"""What is wrong with a ``task_subject()``, and with names that hide what the base has."""

import functools

import pytest
from django.core.checks import run_checks

from partisan_async import registry
from partisan_async.processor import BaseTaskProcessor
from partisan_async.schedule import Every
from partisan_async.task_processor import TaskProcessor

pytestmark = pytest.mark.django_db


def run(self, customer: str, *notes: str, at: int = 0, **more: str): ...


@pytest.fixture
def found(monkeypatch):
    """Return what the checks find in a class."""

    def found(base=TaskProcessor, **body):
        made = type("Declared", (base,), {"run": run, **body})
        monkeypatch.setitem(registry._processors, "Declared", made)
        messages = [each for each in run_checks() if each.obj is made]
        return [(each.id.removeprefix("partisan_async."), each.msg, each.hint) for each in messages]

    return found


async def asked_async(self, customer): ...


@pytest.mark.parametrize(
    ("method", "wrong", "hint"),
    [
        (
            lambda self, custommer: None,
            "Declared.task_subject() asks for custommer, which is no parameter of its run().",
            "Ask for those of run(customer, *notes, at=…, **more).",
        ),
        (
            lambda self, customer, *, who=None: None,
            "Declared.task_subject() asks for who, which is no parameter of its run().",
            "Ask for those of run(customer, *notes, at=…, **more).",
        ),
        (
            lambda self, customer, /: None,
            "Declared.task_subject() takes customer by position alone, and gets it by its name.",
            "Take the / out.",
        ),
        (
            asked_async,
            "Declared.task_subject() is async, and is not awaited.",
            "Write def task_subject(self).",
        ),
        (
            "customer:42",
            "Declared.task_subject is 'customer:42', and no method.",
            "Write def task_subject(self).",
        ),
        (
            staticmethod(lambda who: None),
            "Declared.task_subject() asks for who, which is no parameter of its run().",
            "Ask for those of run(customer, *notes, at=…, **more).",
        ),
    ],
)
def test_one_that_cannot_be_called_is_an_error(found, method, wrong, hint):
    assert found(task_subject=method) == [("E030", wrong, hint)]


def test_of_an_untyped_processor_it_has_nothing_to_ask_for(found):
    ((number, wrong, hint),) = found(
        BaseTaskProcessor, run=lambda self: None, task_subject=lambda self, customer: None
    )

    assert (number, hint) == ("E030", "It has none: take it from self.args or self.kwargs.")
    assert wrong == "Declared.task_subject() asks for customer, which is no parameter of its run()."


@pytest.mark.parametrize(
    "method",
    [
        lambda self: None,
        lambda self, customer: None,
        lambda self, notes, at, more: None,
        lambda self, customer="": None,
        lambda self, *args, **kwargs: None,
        staticmethod(lambda customer: None),
        classmethod(lambda cls, customer: None),
        functools.wraps(run)(lambda self, **call: None),
    ],
)
def test_one_that_can_is_none(found, method):
    assert found(task_subject=method) == []


class TestSchedules:
    """What cannot say whose a tick is would keep a supervisor from starting."""

    def test_what_it_raises_for_a_tick_is_an_error(self, found):
        def task_subject(self, customer):
            return {"ada": "customer:ada"}[customer]

        several = {"eu": Every(seconds=60, kwargs={"customer": "eu"})}
        ((number, wrong, hint),) = found(SCHEDULES=several, task_subject=task_subject)

        assert number == "E025"
        assert "Declared.task_subject() raised KeyError: 'eu'" in wrong
        assert hint == "Give the schedule kwargs that run() and task_subject() take."
        right = {"eu": Every(seconds=60, kwargs={"customer": "ada"})}
        assert found(SCHEDULES=right, task_subject=task_subject) == []

    def test_also_of_one_without_arguments(self, found):
        body = {"run": lambda self: None, "SCHEDULE": Every(seconds=60)}

        ((number, wrong, _),) = found(**body, task_subject=lambda self: self.args[0])

        assert (number, "raised IndexError" in wrong) == ("E025", True)
        assert found(**body, task_subject=lambda self: "everybody") == []

    def test_one_that_cannot_be_called_is_told_once(self, found):
        several = {"eu": Every(seconds=60, kwargs={"customer": "eu"})}
        errors = found(SCHEDULES=several, task_subject=lambda self, who: None)

        assert [number for number, *_ in errors] == ["E030"]


class TestOwnNames:
    @pytest.mark.parametrize(
        ("name", "ours"),
        [
            ("args", "what the call passes by position"),
            ("kwargs", "what the call passes by name"),
            ("task_obj", "the row that it runs"),
        ],
    )
    def test_a_name_of_what_each_object_has_is_a_warning(self, found, name, ours):
        ((number, wrong, hint),) = found(**{name: ()})

        assert (number, hint) == ("W017", "Give it another name.")
        assert wrong == f"Declared.{name} has the name of what each Declared has: {ours}."

    @pytest.mark.parametrize("name", ["subject", "customer", "task", "call", "result", "delay"])
    def test_any_other_is_the_projects_own(self, found, name):
        """Each mail has a subject."""
        assert found(**{name: lambda self: None}) == []

    def test_the_tests_own_processors_have_none(self):
        ids = {each.id for each in run_checks(tags=["partisan_async"])}
        assert not ids & {"partisan_async.W017", "partisan_async.E030"}

    def test_what_is_put_on_an_object_may_be_assigned_over(self):
        class Assigning(BaseTaskProcessor):
            def __init__(self, *args):
                super().__init__(*args)
                self.args, self.task_obj = (1,), "mine"

            def run(self): ...

        assert (Assigning().args, Assigning().task_obj) == ((1,), "mine")
