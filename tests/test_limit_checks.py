"""What is wrong with a ``LIMIT``: alone, beside its processor's methods, and beside others'."""

import enum
import math

import pytest
from django.core.checks import run_checks

from partisan_async import registry
from partisan_async.limits import Limit, Rate
from partisan_async.task_processor import TaskProcessor

pytestmark = pytest.mark.django_db


def run(self, partner: str, *notes: str, at: int = 0): ...


def key(self, partner): ...


@pytest.fixture
def made(monkeypatch):
    """Return what makes a processor with this name and body."""

    def make(name="Declared", base=TaskProcessor, **body):
        made = type(name, (base,), {"run": run, "limit_key": key, **body})
        monkeypatch.setitem(registry._processors, name, made)
        return made

    return make


@pytest.fixture
def found(made):
    """Return what the checks find in a class."""

    def found(name="Declared", base=TaskProcessor, **body):
        return told(made(name, base, **body))

    return found


def told(processor):
    messages = [each for each in run_checks() if each.obj is processor]
    return [(each.id.removeprefix("partisan_async."), each.msg, each.hint) for each in messages]


WHOLE = "must be a whole number, 1 or more"
TEXT = "must be text of 1 to 255 characters that can be printed"
RATES = "must be a list of rates, such as [Rate(100, per_seconds=1)]"
SECONDS = "it must be a number of seconds, 0.1 or more, up to ten years"


@pytest.mark.parametrize(
    ("limit", "hint"),
    [
        (5, "must be Limit(…) of partisan_async.limits, or None"),
        (Limit, "must be Limit(…) of partisan_async.limits, or None"),
        (Rate(5, per_seconds=1), "must be Limit(…) of partisan_async.limits, or None"),
        (Limit(), "limits nothing: give it a part, such as running=2, or leave it out"),
        (Limit(name="x"), "limits nothing: give it a part, such as running=2, or leave it out"),
        (
            Limit(in_order=False, fair=False, rates=[]),
            "limits nothing: give it a part, such as running=2, or leave it out",
        ),
        (Limit(running=0), f"has running=0, which {WHOLE}, or None"),
        (Limit(running=-1), f"has running=-1, which {WHOLE}, or None"),
        (Limit(running=True), f"has running=True, which {WHOLE}, or None"),
        (Limit(running=2.0), f"has running=2.0, which {WHOLE}, or None"),
        (Limit(running="2"), f"has running='2', which {WHOLE}, or None"),
        (Limit(running=2**31), f"has running={2**31}, which must be {2**31 - 1} or less, or None"),
        (Limit(running_per_key=0), f"has running_per_key=0, which {WHOLE}, or None"),
        (Limit(running_per_key=False), f"has running_per_key=False, which {WHOLE}, or None"),
        (
            Limit(rates=Rate(5, per_seconds=1)),
            ("has rates=Rate(count=5, per_seconds=1), which takes several rates; write"
            " [Rate(100, per_seconds=1)]"),
        ),
        (Limit(rates=[5]), f"has rates=[5], which {RATES}"),
        (Limit(rates=5), f"has rates=5, which {RATES}"),
        (Limit(rates=None, running=1), f"has rates=None, which {RATES}"),
        (Limit(rates_per_key="5/s"), f"has rates_per_key='5/s', which {RATES}"),
        (
            Limit(rates_per_key=[Rate(5, per_seconds=1), Rate(0, per_seconds=2)]),
            ("has rates_per_key=[Rate(count=5, per_seconds=1), Rate(count=0, per_seconds=2)], which"
            f" has the count 0; it {WHOLE}"),
        ),
        *(
            (
                Limit(rates=[Rate(count, per_seconds=1)]),
                (f"has rates=[Rate(count={count!r}, per_seconds=1)], which has the count"
                f" {count!r}; it {wrong}"),
            )
            for count, wrong in (
                (-5, WHOLE), (True, WHOLE), (1.5, WHOLE), ("5", WHOLE),
                (2**31, f"must be {2**31 - 1} or less"),
            )
        ),
        *(
            (
                Limit(rates=[Rate(5, per_seconds=seconds)]),
                (f"has rates=[Rate(count=5, per_seconds={seconds!r})], which has"
                f" per_seconds={seconds!r}; {SECONDS}"),
            )
            for seconds in (0, -1, 0.05, True, "1", None, math.inf, math.nan, 1e10)
        ),
        (
            Limit(rates=[Rate(9, per_seconds=1), Rate(5, per_seconds=1.0)]),
            ("has rates=[Rate(count=9, per_seconds=1), Rate(count=5, per_seconds=1.0)], which has"
            " two rates with per_seconds=1.0; leave one out"),
        ),
        (Limit(running=1, in_order=1), "has in_order=1, which must be True or False"),
        (Limit(running=1, fair=None), "has fair=None, which must be True or False"),
        (Limit(running=1, name=5), f"has name=5, which {TEXT}, or None"),
        (Limit(running=1, name=""), f"has name='', which {TEXT}, or None"),
        (Limit(running=1, name="x" * 256), f"has name={'x' * 256!r}, which {TEXT}, or None"),
        (Limit(running=1, name="a\x00"), f"has name='a\\x00', which {TEXT}, or None"),
        (Limit(running=1, name="a\ud800"), f"has name='a\\ud800', which {TEXT}, or None"),
    ],
)  # fmt: skip
def test_values_that_cannot_be(found, limit, hint):
    assert found(LIMIT=limit) == [("E032", f"Declared.LIMIT is {limit!r}.", f"It {hint}.")]


@pytest.mark.parametrize(
    "limit",
    [
        None,
        Limit(running=1),
        Limit(running=2**31 - 1, name="x" * 255),
        Limit(running_per_key=1, running=2),
        Limit(rates=(Rate(1, per_seconds=0.1),)),
        Limit(rates_per_key=[Rate(2**31 - 1, per_seconds=86400)]),
        Limit(in_order=True, running=3, name="orders"),
        Limit(fair=True),
        Limit(fair=True, name="é 👩"),
    ],
)
def test_values_that_can(found, limit):
    assert found(LIMIT=limit) == []


def test_it_never_raises():
    """A module with a wrong one is imported, so that the checks can tell."""
    assert repr(Rate(None, per_seconds="soon")) == "Rate(count=None, per_seconds='soon')"
    assert Limit(running=object(), rates=7, name=[]).rates == 7


def test_in_order_beside_so_many_per_key(found):
    ((number, wrong, hint),) = found(LIMIT=Limit(in_order=True, running_per_key=1))

    assert (number, hint) == ("E033", "Leave one of the two out.")
    assert wrong == (
        "Declared.LIMIT is in_order, so that one task of a key runs at once, and has"
        " running_per_key=1."
    )


@pytest.mark.parametrize(
    ("limit", "part"),
    [
        (Limit(running_per_key=2), "running_per_key=2"),
        (
            Limit(rates_per_key=[Rate(1, per_seconds=1)]),
            "rates_per_key=[Rate(count=1, per_seconds=1)]",
        ),
        (Limit(in_order=True), "in_order=True"),
        (Limit(fair=True), "fair=True"),
    ],
)
def test_parts_of_keys_where_nothing_says_the_key(made, limit, part):
    processor = made(LIMIT=limit)
    assert told(processor) == []

    del processor.limit_key

    ((number, wrong, hint),) = told(processor)
    assert number == "E035"
    assert wrong == f"Declared.LIMIT has {part}, and the class has no limit_key()."
    assert hint == "Write def limit_key(self, …), which returns the key of a call."


def test_without_such_parts_none_is_needed(made):
    processor = made(LIMIT=Limit(running=2, rates=[Rate(1, per_seconds=1)], name="x"))
    del processor.limit_key

    assert told(processor) == []


async def key_async(self, partner): ...


@pytest.mark.parametrize(
    ("method", "wrong", "hint"),
    [
        (
            lambda self, parner: None,
            "Declared.limit_key() asks for parner, which is no parameter of its run().",
            "Ask for those of run(partner, *notes, at=…).",
        ),
        (
            lambda self, partner, /: None,
            "Declared.limit_key() takes partner by position alone, and gets it by its name.",
            "Take the / out.",
        ),
        (
            key_async,
            "Declared.limit_key() is async, and is not awaited.",
            "Write def limit_key(self).",
        ),
        ("acme", "Declared.limit_key is 'acme', and no method.", "Write def limit_key(self)."),
    ],
)
def test_a_method_that_cannot_be_called(found, method, wrong, hint):
    assert found(LIMIT=Limit(running_per_key=1), limit_key=method) == [("E037", wrong, hint)]
    assert found(limit_key=method) == []  # without a limit it is the project's own


class TestShared:
    """Processors with one name share a limit: in the same words, and in order in one queue."""

    def test_two_that_disagree(self, made):
        one, two = Limit(running=2, name="api"), Limit(running=3, name="api")
        made("Pay", LIMIT=one)
        ship = made("Ship", LIMIT=two)

        ((number, wrong, hint),) = told(ship)

        assert number == "E036"
        assert wrong == (
            f"Pay and Ship share the limit 'api', and disagree about it: {one!r} and {two!r}."
        )
        assert hint.startswith("Write it once, as a constant that both have as LIMIT")

    @pytest.mark.parametrize(
        "other",
        [
            Limit(running=2, running_per_key=1, name="api"),
            Limit(running=2, rates=[Rate(5, per_seconds=1)], name="api"),
            Limit(running=2, rates_per_key=[Rate(5, per_seconds=1)], name="api"),
            Limit(running=2, in_order=True, name="api"),
            Limit(running=3, name="api"),
        ],
    )
    def test_about_any_part(self, made, other):
        made("Pay", LIMIT=Limit(running=2, name="api"))

        assert [number for number, *_ in told(made("Ship", LIMIT=other))] == ["E036"]

    def test_the_same_in_other_words(self, made):
        """They need be neither one object nor of one order."""
        fast, slow = Rate(5, per_seconds=1), Rate(60, per_seconds=60)
        made("Pay", LIMIT=Limit(rates=[fast, slow], name="api"))
        ship = made("Ship", LIMIT=Limit(rates=(slow, Rate(5, per_seconds=1.0)), name="api"))

        assert told(ship) == []

    def test_by_the_name_of_another_processor(self, made):
        """A limit without a name is called as its processor is."""
        made("Pay", LIMIT=Limit(running=2), ALSO_KNOWN_AS=("Charge",))
        ship = made("Ship", LIMIT=Limit(running=3, name="Charge"))

        assert [number for number, *_ in told(ship)] == ["E036"]

    def test_a_member_of_an_enum_is_its_value(self, made):
        class Name(enum.StrEnum):
            API = "api"

        made("Pay", LIMIT=Limit(running=2, name=Name.API))

        assert [n for n, *_ in told(made("Ship", LIMIT=Limit(running=3, name="api")))] == ["E036"]

    def test_in_order_over_two_queues(self, made):
        limit = Limit(in_order=True, name="orders")
        made("Pay", LIMIT=limit)
        ship = made("Ship", LIMIT=limit, QUEUE_NAME="slow")

        ((number, wrong, hint),) = told(ship)

        assert (number, hint.split(":")[0]) == ("E034", "Give both the same queue")
        assert wrong == (
            "The limit 'orders' is in order, and its tasks are of two queues: Pay.QUEUE_NAME is"
            " 'default', and Ship.QUEUE_NAME is 'slow'."
        )

    def test_any_other_may_be_of_several_queues(self, made):
        limit = Limit(running=2, name="orders")
        made("Pay", LIMIT=limit)

        assert told(made("Ship", LIMIT=limit, QUEUE_NAME="slow")) == []

    def test_those_without_a_name_share_nothing(self, made):
        base = made("Base", LIMIT=Limit(in_order=True))
        other = made("Other", base, LIMIT=Limit(running=2), QUEUE_NAME="slow")
        derived = made("Derived", base, QUEUE_NAME="slow")

        assert told(base) + told(other) + told(derived) == []

    def test_one_that_is_invalid_is_told_once(self, made):
        made("Pay", LIMIT=Limit(running=2, name="api"))

        assert [n for n, *_ in told(made("Ship", LIMIT=Limit(running=0, name="api")))] == ["E032"]


class TestMoot:
    """What never holds a task up misleads who reads it."""

    @pytest.mark.parametrize(
        ("limit", "what", "why"),
        [
            (
                Limit(rates=[Rate(100, per_seconds=1), Rate(50, per_seconds=60)]),
                "Rate(count=100, per_seconds=1)",
                "Rate(count=50, per_seconds=60) allows no more in a window at least as long",
            ),
            (
                Limit(rates=[Rate(50, per_seconds=60), Rate(50, per_seconds=1)]),
                "Rate(count=50, per_seconds=1)",
                "Rate(count=50, per_seconds=60) allows no more in a window at least as long",
            ),
            (
                Limit(
                    rates=[Rate(5, per_seconds=1)],
                    rates_per_key=[Rate(5, per_seconds=1), Rate(9, per_seconds=10)],
                ),
                "Rate(count=5, per_seconds=1)",
                "Rate(count=5, per_seconds=1) allows no more in a window at least as long",
            ),
            (
                Limit(running=2, running_per_key=2),
                "running_per_key=2",
                "running=2 allows no more",
            ),
        ],
    )
    def test_is_a_warning(self, found, limit, what, why):
        ((number, wrong, hint),) = found(LIMIT=limit)

        assert (number, hint) == ("W018", "Leave it out.")
        assert wrong == f"Declared.LIMIT has {what}, which never holds a task up: {why}."

    @pytest.mark.parametrize(
        "limit",
        [
            Limit(rates=[Rate(100, per_seconds=1), Rate(10_000, per_seconds=3600)]),
            Limit(rates=[Rate(100, per_seconds=60), Rate(50, per_seconds=1)]),
            Limit(rates=[Rate(9, per_seconds=1)], rates_per_key=[Rate(8, per_seconds=1)]),
            Limit(rates=[Rate(5, per_seconds=1)], rates_per_key=[Rate(5, per_seconds=2)]),
            Limit(rates=[Rate(9, per_seconds=9)], rates_per_key=[Rate(8, per_seconds=99)]),
            Limit(running=3, running_per_key=2),
            Limit(running=1, rates=[Rate(10**6, per_seconds=1)]),  # its tasks may be short
        ],
    )
    def test_what_may_bite_is_none(self, found, limit):
        assert found(LIMIT=limit) == []


@pytest.mark.parametrize(
    "name", ["LIMITS", "RATE_LIMIT", "MAX_CONCURRENCY", "CONCURRENCY", "THROTTLE"]
)
def test_other_words_for_it_are_told(found, name):
    ((number, _, hint),) = found(**{name: 5})

    assert number == "W014"
    assert hint.startswith("Did you mean LIMIT?")
