"""The key of a call under its limit: what it may be, who is asked, and what delay() refuses."""

import enum
import uuid

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils.functional import SimpleLazyObject

from partisan_async import registry
from partisan_async.limits import Limit, Rate
from partisan_async.models import Task
from partisan_async.processor import BaseTaskProcessor
from partisan_async.task_processor import TaskProcessor
from tests.testapp.models import Mark

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "ada@example.org"


class Of(enum.StrEnum):
    ADA = "customer:ada"


class Number(enum.IntEnum):
    FIVE = 5


class Mixed(enum.StrEnum):
    ADA = "customer:ada"


@pytest.fixture
def made(monkeypatch):
    """Return what makes a processor with this body."""

    def make(key=lambda self: None, base=TaskProcessor, **body):
        attributes = {"LIMIT": Limit(running_per_key=1), "run": lambda self: None, "limit_key": key}
        made = type("Made", (base,), attributes | body)
        monkeypatch.setitem(registry._processors, "Made", made)
        return made

    return make


def columns():
    names = ("status", "limit_name", "limit_key", "limit_rank")
    return list(Task.objects.order_by("pk").values_list(*names))


class TestKinds:
    @pytest.mark.parametrize(
        ("key", "stored"),
        [
            ("acme", "acme"),
            (5, "5"),
            ("5", "5"),
            (0, "0"),
            (-7, "-7"),
            pytest.param(10**254, str(10**254), id="255 digits"),
            ("", ""),
            (" ", " "),
            ("x" * 255, "x" * 255),
            ("é" * 255, "é" * 255),
            ('a "quoted" \\ {text},\nNULL', 'a "quoted" \\ {text},\nNULL'),
            ("%(x)s %s '; DROP TABLE", "%(x)s %s '; DROP TABLE"),
            (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
            (Of.ADA, "customer:ada"),
            (Mixed.ADA, "customer:ada"),
            (Number.FIVE, "5"),
            (SimpleLazyObject(lambda: "acme"), "acme"),
            (None, None),
        ],
    )
    def test_what_can_be_one(self, made, key, stored):
        processor = made(lambda self: key)

        task = processor().delay()
        (many,) = processor.bulk_delay([processor()])

        assert type(task.limit_key) in (str, type(None))
        assert (task.limit_key, many.limit_key) == (stored, stored)
        assert {row[2] for row in columns()} == {stored}

    @pytest.mark.parametrize(
        ("key", "kind", "told"),
        [
            (True, TypeError, "is of type bool; it must be text, a whole number or a UUID, or"),
            (False, TypeError, "is of type bool"),
            (5.0, TypeError, "is of type float"),
            (b"acme", TypeError, "is of type bytes"),
            (("a", 1), TypeError, "is of type tuple"),
            (Mark(text=SECRET), TypeError, "is of type Mark"),
            (SECRET * 20, ValueError, "has 300 characters; it must have 255 at most"),
            ("x" * 256, ValueError, "has 256 characters"),
            (10**255, ValueError, "has 256 characters"),
            pytest.param(10**5000, ValueError, "has over 255 digits; it", id="5001 digits"),
            (f"{SECRET}\x00", ValueError, "contains a NUL character"),
            (f"{SECRET}\ud800", ValueError, "contains the lone surrogate"),
        ],
    )
    def test_what_cannot_is_refused_and_not_shown(self, made, key, kind, told):
        processor = made(lambda self: key)

        for enqueue in (
            lambda: processor().delay(),
            lambda: async_to_sync(processor().adelay)(),
            lambda: processor.bulk_delay([processor()]),
        ):
            with pytest.raises(kind) as raised:
                enqueue()
            assert type(raised.value) is kind
            assert f"What Made.limit_key() returned {told}" in str(raised.value)
            assert SECRET not in str(raised.value)
        assert columns() == []

    def test_of_many_the_wrong_one_is_named(self, made):
        keys = iter(["a", "b", 5.0])
        processor = made(lambda self: next(keys))

        with pytest.raises(TypeError, match=r"Call 2: What Made.limit_key\(\) returned"):
            processor.bulk_delay([processor(), processor(), processor()])
        assert columns() == []


class TestAsked:
    @pytest.mark.parametrize("how", ["position", "name", "default"])
    def test_of_the_parameters_that_it_names(self, made, how):
        seven = uuid.UUID(int=7)

        def run(self, partner: uuid.UUID = seven, *rest: int, at: int = 0): ...

        def key(self, partner):
            assert type(partner) is uuid.UUID
            return partner

        processor = made(key, run=run)
        call = {"position": ((seven, 1), {}), "name": ((), {"partner": seven}), "default": ((), {})}
        args, kwargs = call[how]

        assert processor(*args, **kwargs).delay().limit_key == str(seven)

    def test_of_an_untyped_one_by_what_its_init_sets(self, made):
        def init(self, *args):
            BaseTaskProcessor.__init__(self, *args)
            self.partner = args[0]

        processor = made(lambda self: self.partner, BaseTaskProcessor, __init__=init)

        assert processor("acme").delay().limit_key == "acme"

    def test_once_of_each_call(self, made):
        asked = []
        processor = made(lambda self, n: asked.append(n), run=lambda self, n: None)

        processor(1).delay()
        processor.bulk_delay([processor(n) for n in range(2, 5)])

        assert asked == [1, 2, 3, 4]

    def test_not_without_a_limit(self, made):
        """Then it is the project's own, whatever it is."""
        processor = made(lambda self, nobody: 1 / 0, LIMIT=None)

        task = processor().delay()
        processor.bulk_delay([processor(), processor()])

        assert (task.status, task.limit_name, task.limit_key, task.limit_rank) == (
            "new", None, None, None,
        )  # fmt: skip

    def test_what_it_raises_is_told_as_the_classs(self, made):
        processor = made(lambda self: {}["acme"])

        with pytest.raises(ValueError, match=r"Made.limit_key\(\) raised KeyError: 'acme'"):
            processor().delay()

    def test_none_is_needed_without_parts_of_keys(self, made):
        processor = made(LIMIT=Limit(running=1, rates=[Rate(1, per_seconds=1)]))
        del processor.limit_key

        assert processor().delay().limit_key is None
        assert columns() == [("limited", "Made", None, 10)]


class TestRefused:
    """What a check tells, delay() tells too: who runs no checks has no row that never starts."""

    @pytest.mark.parametrize(
        ("body", "told"),
        [
            ({"LIMIT": 5}, "Made.LIMIT must be Limit(…) of partisan_async.limits, or None."),
            ({"LIMIT": Limit()}, "Made.LIMIT limits nothing: give it a part"),
            ({"LIMIT": Limit(running=0)}, "Made.LIMIT has running=0, which must be a whole number"),
            (
                {"LIMIT": Limit(in_order=True, running_per_key=1)},
                (
                    "Made.LIMIT is in_order, so that one task of a key runs at once, and has"
                    " running_per_key=1. Leave one of the two out."
                ),
            ),
            (
                {"limit_key": lambda self, who: None},
                "Made.limit_key() asks for who, which is no parameter of its run().",
            ),
            ({"limit_key": 5}, "Made.limit_key is 5, and no method."),
        ],
    )
    def test_a_limit_that_cannot_be(self, made, body, told):
        processor = made(**body)

        for enqueue in (
            lambda: processor().delay(),
            lambda: processor.bulk_delay([processor()]),
        ):
            with pytest.raises(TypeError) as raised:
                enqueue()
            assert told in str(raised.value)
        assert columns() == []

    def test_parts_of_keys_without_keys(self, made):
        processor = made()
        del processor.limit_key

        with pytest.raises(TypeError, match=r"has running_per_key=1, and the class has no limit_k"):
            processor().delay()

    def test_in_order_in_another_queue(self, made):
        """A supervisor sees the order of its own queue alone."""
        processor = made(LIMIT=Limit(in_order=True))

        with pytest.raises(ValueError, match=r"leave out queue_name='slow', or set Made.QUEUE_NAM"):
            processor().delay(queue_name="slow")
        with pytest.raises(ValueError, match=r"Call 0: Made.LIMIT is in order"):
            processor.bulk_delay([processor()], queue_name="slow")
        assert columns() == []
        assert processor().delay(queue_name="default").limit_rank == 0

    def test_any_other_limit_is_for_all_queues(self, made):
        task = made()().delay(queue_name="slow")

        assert (task.queue_name, task.status, task.limit_name) == ("slow", "limited", "Made")


def test_a_key_is_in_no_query_but_as_a_value(made):
    """It may be a person's name: it is no part of a statement that a server logs by its text."""
    processor = made(lambda self: SECRET)

    with CaptureQueriesContext(connection) as queries:
        processor().delay()

    told = [each["sql"] for each in queries if "NOTIFY" in each["sql"] or "notify" in each["sql"]]
    assert not any(SECRET in each for each in told)
