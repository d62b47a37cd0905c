"""What a call with typed parameters stores, gives back, and refuses."""

import dataclasses
import datetime
import decimal
import enum
import functools
import json
import subprocess
import sys
import typing
import uuid
from typing import Any, Literal, NamedTuple, TypedDict
from unittest import mock
from zoneinfo import ZoneInfo

import freezegun
import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, models
from django.utils import timezone
from django.utils.functional import SimpleLazyObject
from django.utils.safestring import SafeString
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from partisan_async.enqueue import arguments
from partisan_async.enqueue.parameters import Stored, parameters_of
from partisan_async.enqueue.parameters.complaints import complaints
from partisan_async.enqueue.parameters.rows import key_of, stored_key
from partisan_async.exceptions import ArgumentsDoNotFit, RowMissing, TaskTimeout
from partisan_async.processor import BaseTaskProcessor
from tests import before
from tests.process import ROOT, environment

P = typing.ParamSpec("P")
T = typing.TypeVar("T")


UserId = typing.NewType("UserId", uuid.UUID)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Kind(models.TextChoices):
    SMALL = "s", "small"
    LARGE = "l", "large"


class Stars(models.IntegerChoices):
    ONE = 1
    TWO = 2


class Mixed(enum.Enum):
    ONE = 1
    TWO = "two"


@dataclasses.dataclass(frozen=True)
class Pair(typing.Generic[T]):
    one: T
    other: T


@dataclasses.dataclass(frozen=True)
class Item:
    name: str
    price: decimal.Decimal
    colour: Colour | None = None


class Point(NamedTuple):
    x: int
    y: float


class Pinned(Point):
    """Has room for attributes, as every class in which nothing forbids them."""


@dataclasses.dataclass
class Loose:
    x: int

    def __post_init__(self):
        self.double = 2 * self.x

    @functools.cached_property
    def half(self):
        return self.x / 2


@dataclasses.dataclass
class Slotted:
    __slots__ = ("more", "x")
    x: int


@dataclasses.dataclass
class OwnInit:
    x: int

    def __init__(self, x, note=""):
        self.x, self.note = x, note


@dataclasses.dataclass
class Raising:
    x: int
    error: typing.ClassVar = None

    def __post_init__(self):
        if self.error:
            raise self.error


class Undecorated(Loose):
    y: int = 5


def with_attribute(value, **attributes):
    for name, each in attributes.items():
        setattr(value, name, each)
    return value


class Address(TypedDict):
    city: str
    lines: list[str]


def taking(hint):
    """Return the parameters of a processor whose only one is of this type."""

    def run(self, value): ...

    run.__annotations__ = {"value": hint}
    return parameters_of(type("Taking", (BaseTaskProcessor,), {"run": run}))


def of(run, **attributes):
    return type("Pay", (BaseTaskProcessor,), {"run": run, **attributes})


def stored(text):
    """Return what a worker reads of a row into which this was written."""
    # As PostgreSQL writes jsonb: 1e+22 in full. Not by the package's own word.
    number = lambda text: int(decimal.Decimal(text)) if "e+" in text else float(text)  # noqa: E731
    call = Stored.of(json.loads(text, parse_float=number))
    assert call is not None
    return call


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=5)
BERLIN = ZoneInfo("Europe/Berlin")
ZONES = st.none() | st.sampled_from([datetime.UTC, ZoneInfo("Europe/Berlin")]) | st.timezones()
SCALARS = {
    str: TEXT,
    int: st.integers(-(2**70), 2**70),
    float: st.floats() | st.integers(-(2**60), 2**60),
    bool: st.booleans(),
    type(None): st.none(),
    datetime.datetime: st.datetimes(timezones=ZONES),
    datetime.date: st.dates(),
    datetime.time: st.times(timezones=ZONES),
    datetime.timedelta: st.timedeltas(),
    decimal.Decimal: st.decimals(),
    uuid.UUID: st.uuids(),
    bytes: st.binary(max_size=5),
    Colour: st.sampled_from(Colour),
    Level: st.sampled_from(Level),
    Kind: st.sampled_from(Kind) | st.just("s"),
    Stars: st.sampled_from(Stars) | st.just(1),
    Item: st.builds(Item, TEXT, st.decimals(), st.none() | st.sampled_from(Colour)),
    Point: st.builds(Point, st.integers(), st.floats()),
    Address: st.fixed_dictionaries({"city": TEXT, "lines": st.lists(TEXT, max_size=2)}),
    Literal["a", 1]: st.sampled_from(["a", 1]),
    int | str: st.integers() | TEXT,
    int | float | None: st.integers() | st.floats() | st.none(),
    datetime.date | int: st.dates() | st.integers(),
}
LIKE_ONE = [True, False, 0, 1, 1.0, -0.0, "1", "", b"1", (1,), [1], {1}, {"1": 1}, Level.LOW,
            Colour.RED, SafeString("x"), decimal.Decimal(1), 1e16, 1e22, 1e308,
            float("nan")]  # fmt: skip
"""What is equal to another, or looks like one in JSON."""


def nested(hint, values, kind):
    """Return a type made of another, and its values."""
    match kind:
        case "list":
            return list[hint], st.lists(values, max_size=3)
        case "tuple":
            return tuple[hint, ...], st.lists(values, max_size=3).map(tuple)
        case "pair":
            return tuple[hint, int], st.tuples(values, st.integers())
        case "dict":
            return dict[str, hint], st.dictionaries(TEXT, values, max_size=3)
        case "keys":
            return dict[hint, int], st.dictionaries(values.filter(hashable), st.integers())
        case "set":
            return set[hint], st.lists(values.filter(hashable), max_size=3).map(set)
        case "frozenset":
            return frozenset[hint], st.lists(values.filter(hashable), max_size=3).map(frozenset)
        case _:
            return hint | None, st.none() | values


def hashable(value):
    try:
        hash(value)
    except TypeError:
        return False
    return True


KINDS = ["list", "tuple", "pair", "dict", "keys", "set", "frozenset", "optional"]


@st.composite
def calls(draw):
    """Draw a type, to a depth of three, and a value that is mostly of it."""
    hint = draw(st.sampled_from(list(SCALARS)))
    values = SCALARS[hint]
    values = draw(st.sampled_from([values, values, values | st.sampled_from(LIKE_ONE)]))
    for kind in draw(st.lists(st.sampled_from(KINDS), max_size=3)):
        hint, values = nested(hint, values, kind)
    return hint, draw(values)


def alike(one, other):
    """Tell whether two values are the same in value and in type, without the package's word."""
    if type(one) is int and type(other) is float:
        return one == other
    if type(one) is not type(other):
        return False
    match one:
        case dict():
            pairs = [(k, o) for k in one for o in other if alike(k, o) and alike(one[k], other[o])]
            return len(one) == len(other) == len(pairs)
        case list() | tuple():
            same_attributes = getattr(one, "__dict__", None) == getattr(other, "__dict__", None)
            return len(one) == len(other) and same_attributes and all(map(alike, one, other))
        case set() | frozenset():
            return len(one) == len(other) == sum(alike(a, b) for a in one for b in other)
        case Slotted():
            return alike(one.x, other.x) and not hasattr(one, "more")
        case _ if dataclasses.is_dataclass(one):
            held = [{k: v for k, v in vars(each).items() if k != "half"} for each in (one, other)]
            return alike(*held)
        case datetime.datetime():
            return one.isoformat() == other.isoformat() and (one.tzinfo is not None or not one.fold)
        case datetime.time():
            return repr(one.replace(tzinfo=None)) == repr(other.replace(tzinfo=None)) and (
                one.isoformat() == other.isoformat()
            )
        case _:
            return one == other


@pytest.mark.timeout(600)
@settings(deadline=None, max_examples=3000, suppress_health_check=list(HealthCheck))
@given(calls())
@example((dict[int | str, int], {1: 1, "1": 2}))
@example((int | float, 1e22))
@example((float, 1e308))
@example((float, 2**53 + 1))
def test_what_is_passed_comes_back_or_is_refused(call):
    """Equal and of the same type; an int is taken for a float."""
    hint, value = call
    try:
        parameters = taking(hint)
        text = parameters.encode((value,), {})
    except (TypeError, ValueError):
        return

    call = stored(text)
    (back,), _ = parameters.decode(call)

    assert alike(value, back)
    assert alike(value, call.args[0]) or not parameters.is_plain(*call)


def test_a_plain_call_is_told_by_the_types_and_the_names_of_its_values():
    """What only resembles one that was plain is read."""

    def run(self, count: int | None, *, ratio: float = 1.0, at: datetime.date | None = None): ...

    parameters = parameters_of(of(run))
    plain, whole, dated = ((5,), {"ratio": 1.5}), ((5,), {"ratio": 1}), ((5,), {"at": "2030-01-01"})
    assert not parameters.is_plain(*plain), "none of its kind was read"
    for args, kwargs in (plain, whole, dated):
        parameters.decode(Stored(list(args), kwargs))

    assert parameters.is_plain(*plain)
    assert parameters.is_plain((7,), {"ratio": 2.5})
    for other in (
        whole,
        dated,
        ((None,), {"ratio": 1.5}),
        (("5",), {"ratio": 1.5}),
        ((5, 1.5), {}),
    ):
        assert not parameters.is_plain(*other)


SURE = {
    str: TEXT,
    int: st.integers(-(2**70), 2**70),
    float: st.floats(-1e15, 1e15) | st.integers(-(2**50), 2**50),
    bool: st.booleans(),
    type(None): st.none(),
    datetime.datetime: st.datetimes(timezones=st.just(datetime.UTC)),
    datetime.date: st.dates(),
    datetime.time: st.times().map(lambda each: each.replace(fold=0)),
    datetime.timedelta: st.timedeltas(
        datetime.timedelta(days=-(10**6)), datetime.timedelta(days=10**6)
    ),
    decimal.Decimal: st.decimals(allow_nan=False, allow_infinity=False),
    uuid.UUID: st.uuids(),
    bytes: st.binary(max_size=5),
    Colour: st.sampled_from(Colour),
    Level: st.sampled_from(Level),
    Item: st.builds(
        Item,
        TEXT,
        st.decimals(allow_nan=False, allow_infinity=False),
        st.none() | st.sampled_from(Colour),
    ),
    Point: st.builds(Point, st.integers(), st.floats(-1e15, 1e15)),
    Literal["a", 1]: st.sampled_from(["a", 1]),
    int | str: st.integers() | TEXT,
}
"""Values that are of their type beyond doubt."""


@st.composite
def right_calls(draw):
    """Draw a type that can be, to a depth of two, and a value of it."""
    hint = draw(st.sampled_from(list(SURE)))
    values = SURE[hint]
    for kind in draw(st.lists(st.sampled_from([k for k in KINDS if k != "keys"]), max_size=2)):
        hint, values = nested(hint, values, kind)
    return hint, draw(values)


@pytest.mark.timeout(600)
@settings(deadline=None, max_examples=500, suppress_health_check=list(HealthCheck))
@given(right_calls())
def test_what_is_of_its_type_is_never_refused(call):
    """Else the property above would hold of an encoder that refuses everything."""
    hint, value = call
    try:
        parameters = taking(hint)
    except TypeError as error:
        assert "a set of unhashable values" in str(error)  # noqa: PT017  as of list[…]
        return

    (back,), _ = parameters.decode(stored(parameters.encode((value,), {})))

    assert alike(value, back)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (float, 1e308), (float, 5), (float, 1.5e300), (int, 2**70), (list[float], [1, 1e22]),
        (datetime.datetime, datetime.datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN)),
        (datetime.datetime, datetime.datetime(2026, 10, 25, 2, fold=1, tzinfo=BERLIN)),
        (datetime.timedelta, datetime.timedelta(days=-3, microseconds=5)),
        (datetime.time, datetime.time(1, 2, 3, 4)), (decimal.Decimal, decimal.Decimal("1E+500")),
        (bytes, b"\x00\xff"), (set[str], {"b", "a"}),
        (dict[uuid.UUID, Item], {uuid.UUID(int=5): Item("é", decimal.Decimal("1.10"))}),
        (Point, Point(1, 2.5)), (Pair[int], Pair(1, 2)),
        (typing.Annotated[int, []], 5), (list[typing.Annotated[int, []]], [5]),
        (Address, {"city": "x", "lines": []}), (Level, Level.HIGH),
        (Kind, Kind.LARGE), (Kind | None, Kind.SMALL), (list[Stars], [Stars.TWO]),
        (frozenset[tuple[int, str]], frozenset({(1, "a"), (2, "b")})), (Literal["a", 1], 1),
        (set[Colour], set(Colour)), (set[int | None], {1, None}), (set[int | str], {1, "a"}),
        (set[Item], {Item("a", decimal.Decimal(1)), Item("b", decimal.Decimal(2), Colour.RED)}),
        (set[tuple[int | None, Colour]], {(1, Colour.RED), (None, Colour.BLUE)}),
        (Loose, Loose(5)), (Loose, with_attribute(Loose(5), half=2.5)), (Slotted, Slotted(5)),
        (Pinned, Pinned(1, 2.5)), (list[Pair[int]], [Pair[int](1, 2)]),
        (dict[str, frozenset[Point]], {"a": frozenset({Point(1, 2.5), Point(1, 1.5)})}),
        (list[Colour | None], [Colour.RED, None]),
        (dict[datetime.date, int], {datetime.date(2026, 1, 1): 1}),
        (bool | None, True), (Any, {"a": [1]}), (dict, {"a": [1]}), (list, [1, "a"]),
    ],
)  # fmt: skip
def test_a_value_of_its_type_is_taken(hint, value):
    parameters = taking(hint)

    (back,), _ = parameters.decode(stored(parameters.encode((value,), {})))

    assert alike(value, back)


SETS = """
import django; django.setup()
from tests.test_parameters import *
words = frozenset(map(frozenset, ["ab", "cde", "f", "gh"]))
print(taking(dict[str, frozenset[frozenset[str]]]).encode(({"x": words},), {}))
print(taking(set[Colour | None]).encode(({*Colour, None},), {}))
print(taking(set[str]).encode(({"é", "Z", "a", "z"},), {}))
print(taking(set[int]).encode(({10, 9},), {}))
"""


def test_a_set_is_stored_in_one_order():
    """Text hashes are others in each process; the same set is the same call in all of them.

    As far as ``sorted()`` can order it, as it does: so is a set written where nothing has types.
    """
    told = {
        subprocess.run(
            [sys.executable, "-c", SETS],
            env=environment(PYTHONHASHSEED=seed), cwd=ROOT, capture_output=True, check=True,
        ).stdout.decode()
        for seed in "123"
    }  # fmt: skip

    (text,) = told
    assert text.split() == [
        '{"args":[{"x":[["a","b"],["c","d","e"],["f"],["g","h"]]}],"kwargs":{}}',
        '{"args":[["blue","red",null]],"kwargs":{}}',
        '{"args":[["Z","a","z","\\u00e9"]],"kwargs":{}}',
        '{"args":[[9,10]],"kwargs":{}}',
    ]


BEFORE = before.module("partisan_async/arguments.py")
PLAIN = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | TEXT | st.text('\x7f\x1f\\"é/')
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    PLAIN | FLOATS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=8
)


@pytest.mark.timeout(3000)
@settings(deadline=None, max_examples=10_000, suppress_health_check=list(HealthCheck))
@given(PLAIN, FLOATS, JSON, PLAIN, st.booleans())
def test_the_stored_bytes_are_those_of_an_untyped_call(plain, number, data, named, by_name):
    """Or rows of two releases would not be twins any more, which the digest of these says."""

    def run(self, plain, number: float, data: Any, named: int | str | bool | None = None): ...

    args, kwargs = (plain, number, data), {"named": named}
    if by_name:
        args, kwargs = (plain,), {"number": number, "named": named, "data": data}

    found, untyped = parameters_of(of(run)).encode(args, kwargs), BEFORE.encode(args, kwargs)

    assert found == untyped
    assert arguments.digest("Pay", found) == BEFORE.digest("Pay", untyped)


def run_typed(self, order: uuid.UUID, *, at: datetime.datetime | None = None, count: int = 0): ...


ORDER = uuid.UUID(int=1)


@pytest.mark.parametrize(
    ("args", "kwargs", "told"),
    [
        ((), {}, "Pay: order is missing; call it as run(order, *, at=…, count=…) says."),
        ((ORDER, 1), {}, "it takes 1 by position, and got 2"),
        ((ORDER,), {"order": ORDER}, "order is passed twice"),
        ((ORDER,), {"cuont": 1}, "there is no parameter cuont; did you mean count?"),
        (("x",), {}, "Pay: order is of type str, and run() takes UUID; pass uuid.UUID(value)."),
        ((None,), {}, "annotate the parameter as UUID | None"),
        ((ORDER,), {"count": True}, "count is of type bool, and run() takes int; pass int(value)."),
        ((ORDER,), {"count": 1.0}, "count is of type float"),
        ((ORDER,), {"count": Level.LOW}, "pass value.value"),
        ((ORDER,), {"at": "2026-01-01"}, "pass datetime.fromisoformat(value)"),
        ((ORDER,), {"at": datetime.datetime(2026, 1, 1)}, "at is a naive datetime, and USE_TZ"),
    ],
)
def test_a_wrong_call_is_told_what_to_pass(args, kwargs, told):
    with pytest.raises((TypeError, ValueError)) as refused:
        parameters_of(of(run_typed)).encode(args, kwargs)

    assert told in str(refused.value)
    assert str(refused.value).startswith("Pay: ")


@pytest.mark.parametrize(
    ("hint", "value", "told"),
    [
        (datetime.date, datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), "value.date()"),
        (str, SafeString("x"), "value + ''"),
        (decimal.Decimal, 1.5, "Decimal(str(value))"),
        (datetime.timedelta, 5, "timedelta(seconds=value)"),
        (Colour, "red", "Colour(value)"),
        (float, float("nan"), "value is nan"),
        (list[uuid.UUID], [ORDER, "x"], "value[1]"),
        (list[int], (1,), "list(value)"),
        (User, 5, "User.objects.get(pk=value)"),
        (str, "a\x00", "NUL"),
        (Kind, "s", "Kind(value)"),
        (Address, 5, "value is of type int, and run() takes Address; pass a dict with 'city'"),
        (UserId, "x", "pass uuid.UUID(value)"),
        (datetime.datetime, 5, "pass datetime.fromtimestamp(value, datetime.UTC)"),
        (datetime.datetime, [], "pass a datetime that you make of it"),
        (Item, {"name": "x"}, "pass Item(**value)"),
        (Point, (1, 2.5), "pass Point(*value)"),
        (Literal["a", 1], "b", "pass one of 'a', 1"),
        (datetime.time, datetime.time(2, fold=1), "pass value.replace(tzinfo=None, fold=0)"),
        (dict[int | str, int], {1: 2}, "a key of value would not come back the same"),
        (Loose, with_attribute(Loose(1), note=5), "value.note is no field of its class"),
        (list[Loose], [with_attribute(Loose(1), note=5)], "value[0].note is no field"),
        (Loose, with_attribute(Loose(1), double=5), "value.double would not come back"),
        (Slotted, with_attribute(Slotted(1), more=5), "value.more is no field of its class"),
        (Pinned, with_attribute(Pinned(1, 2.5), note=5), "value.note is no field of its class"),
    ],
)
def test_a_wrong_value_is_told_what_to_pass(hint, value, told):
    with pytest.raises((TypeError, ValueError)) as refused:
        taking(hint).encode((value,), {})

    assert told in str(refused.value)


def test_a_call_is_stored_as_it_was_written():
    """Positional stays positional, and no default is filled in."""
    assert json.loads(parameters_of(of(run_typed)).encode((ORDER,), {"count": 1})) == {
        "args": [str(ORDER)],
        "kwargs": {"count": 1},
    }


def test_a_run_without_parameters_has_none():
    """Today's rules hold for it; so for the wrapper of a decorator that does not tell."""
    assert parameters_of(of(lambda self: None)) is None
    assert parameters_of(of(lambda self, *args, **kwargs: None)) is None

    def annotated(self, *args: Any, **kwargs: Any): ...

    def lazily(self, *args: "typing.Any", **kwargs: "P.kwargs"): ...

    def of_the_same(self, *args: P.args, **kwargs: P.kwargs): ...

    assert [parameters_of(of(run)) for run in (annotated, lazily, of_the_same)] == [None] * 3


def test_a_bare_run_takes_what_the_one_that_it_overrides_takes():
    """It passes them on; and a call of it is checked, and fails where it is made."""

    class Bare(of(run_typed)):
        def run(self, *args, **kwargs):
            return super().run(*args, **kwargs)

    class Mixin:
        def run(self, *args: Any, **kwargs: Any): ...

    mixed = type("Mixed", (Mixin, Bare), {})

    for each in (Bare, mixed):
        call = stored(parameters_of(each).encode((ORDER,), {"count": 1}))
        assert parameters_of(each).decode(call) == ((ORDER,), {"count": 1})
        with pytest.raises(TypeError, match=f"{each.__name__}: order is of type str"):
            parameters_of(each).encode(("x",), {})
    assert parameters_of(type("Nothing", (Bare,), {"run": lambda self: None})) is None


def test_variable_and_positional_only_parameters():
    def run(self, first: int, /, *rest: datetime.date, **more: uuid.UUID): ...

    parameters = parameters_of(of(run))
    day = datetime.date(2026, 1, 1)
    call = stored(parameters.encode((1, day), {"first": ORDER}))

    assert parameters.decode(call) == ((1, day), {"first": ORDER})
    with pytest.raises(TypeError, match=r"rest\[0\] is of type int"):
        parameters.encode((1, 5), {})


def test_parameters_by_name():
    """For masks, wherever the caller put them."""
    parameters = parameters_of(of(run_typed))
    call = stored(parameters.encode((ORDER,), {"count": 5}))

    assert parameters.places(call, "order") == [("args", 0)]
    assert parameters.places(call, "count") == [("kwargs", "count")]
    assert parameters.places(call, "at") == []


@pytest.mark.parametrize(
    "call",
    [
        Stored([], {}),
        Stored(["x"], {}),
        Stored([str(ORDER)], {"new": 1}),
        Stored([str(ORDER)], {"count": "5"}),
        Stored([str(ORDER), 1], {}),
        Stored([[[]]], {}),
    ],
)
def test_a_row_that_does_not_fit_says_so(call):
    with pytest.raises(ArgumentsDoNotFit, match="Pay"):
        parameters_of(of(run_typed)).decode(call)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Item, {"name": "x", "price": "1", "refund": True}),
        (list[Address], [{"city": "x", "lines": [], "zip": "1"}]),
        (Item | None, {"name": "x", "price": "1", "refund": True}),
        (set[Item], [{"name": "x", "price": "1", "refund": True}]),
        (dict[int, Item], {"5": {"name": "x", "price": "1", "refund": True}}),
        (Pair[Item], {"one": {"name": "x", "price": "1", "refund": 1}, "other": {}}),
    ],
)
def test_a_field_that_this_code_does_not_know_does_not_fit(hint, value):
    """To leave it out would be to run another call than the one that was made."""
    with pytest.raises(ArgumentsDoNotFit):
        taking(hint).decode(Stored([value], {}))


def test_annotations_that_cannot_be():
    def run(
        self,
        a: "Missing",  # noqa: F821
        b: datetime.datetime | str,
        c: Mixed,
        d: object,
        e: set[list],
        f: set[User],
        g: models.Model,
        h: frozenset[User | None] | None,
        i: OwnInit,
        j: Undecorated,
    ): ...

    found = complaints(of(run), BaseTaskProcessor)

    places = [f"Pay.run(): the annotation of {name} " for name in "abcdefghij"]
    assert len(found) == len(places)
    assert all(each.wrong.startswith(place) for each, place in zip(found, places, strict=True))
    assert all(each.hint for each in found)


@pytest.mark.parametrize(
    ("hint", "told"),
    [
        ("Missing", "Import what it names, or define it,"),
        ("typing.Final[int]", "Take one of the types"),
    ],
)
def test_an_annotation_that_cannot_be_resolved_says_whose_it_is(hint, told):
    def run(self, value): ...

    run.__annotations__ = {"value": hint}

    with pytest.raises(TypeError, match=r"^Pay\.run\(\): the annotation of value .*" + told):
        parameters_of(of(run))


def test_a_method_is_no_type():
    """A class may have a ``list()`` beside a ``run()`` with a list, as Python reads it."""

    def run(self, value: "list[Inner]"): ...  # noqa: F821

    parameters = parameters_of(of(run, list=lambda self: None, Inner=int))

    assert parameters.encode(([5],), {}) == '{"args":[[5]],"kwargs":{}}'


def test_a_mock_with_the_signature_of_run_is_read_as_run():
    """Lazy annotations name what its own module has, and not that of mock."""

    class Mocked(BaseTaskProcessor):
        def run(self, value: "uuid.UUID"): ...

    with mock.patch.object(Mocked, "run", autospec=True):
        assert parameters_of(Mocked).encode((ORDER,), {}) == f'{{"args":["{ORDER}"],"kwargs":{{}}}}'


@pytest.mark.skipif(sys.version_info < (3, 13), reason="type parameters have no default yet")
def test_a_type_parameter_stands_for_its_default():
    found = {}
    exec(
        "class Handle[T = uuid.UUID](BaseTaskProcessor):\n    def run(self, value: T): ...",
        globals(),
        found,
    )

    parameters = parameters_of(found["Handle"])

    assert parameters.decode(stored(parameters.encode((ORDER,), {}))) == ((ORDER,), {})


@pytest.mark.parametrize("error", [TaskTimeout(5), OperationalError("lost"), MemoryError()])
def test_what_says_nothing_of_the_value_is_no_misfit(error):
    """A time limit ends a run wherever that is, and so does the loss of a session."""
    parameters = taking(Raising)
    (text, Raising.error) = parameters.encode((Raising(5),), {}), error
    try:
        with pytest.raises(type(error)) as raised:
            parameters.decode(stored(text))
    finally:
        Raising.error = None

    assert raised.value is error


@pytest.mark.parametrize("error", [TaskTimeout(5), OperationalError("lost")])
def test_neither_is_what_a_key_raises(error, monkeypatch):
    def to_python(value):
        raise error

    user = User(pk=5)
    user._state.adding = False
    monkeypatch.setattr(User._meta.pk, "to_python", to_python)

    for read in (
        lambda: taking(User).encode((user,), {}),
        lambda: taking(User).decode(Stored([5], {})),
    ):
        with pytest.raises(type(error)):
            read()


class Tenants:
    """A router that goes by who is served."""

    served = "default"

    def db_for_write(self, model, **hints):
        return self.served if model is User else None


@pytest.mark.django_db(transaction=True, databases=["default", "second"])
def test_a_row_comes_from_the_database_that_it_was_passed_of(settings, monkeypatch):
    """Whatever a router says in the worker, which serves another tenant, or none."""
    ann = User.objects.create(username="ann")
    settings.DATABASE_ROUTERS = ["tests.test_parameters.Tenants"]
    parameters, found = taking(User), []
    for caller, worker in [("default", "second"), ("second", "default")]:
        monkeypatch.setattr(Tenants, "served", caller)
        text = parameters.encode((ann,), {})
        monkeypatch.setattr(Tenants, "served", worker)
        ((user,), _) = parameters.decode(stored(text))
        found.append((json.loads(text)["args"][0], user._state.db))

    assert found == [({"database": db, "key": ann.pk}, db) for db in ("default", "second")]


def test_an_own_init_and_a_schedule_are_complained_about():
    wrong = of(run_typed, __init__=lambda self, x: None, SCHEDULE="* * * * *")

    told = [each.wrong for each in complaints(wrong, BaseTaskProcessor)]

    assert "has an __init__() of its own" in told[0]
    assert "has a SCHEDULE" in told[1]


def test_a_generic_base_and_an_inherited_async_run():
    T = typing.TypeVar("T")

    class Handle(BaseTaskProcessor, typing.Generic[T]):
        async def run(self, items: list[T]): ...

    class HandleDates(Handle[datetime.date]): ...

    parameters = parameters_of(HandleDates)
    day = datetime.date(2026, 1, 1)

    assert parameters.decode(stored(parameters.encode(([day],), {}))) == (([day],), {})


def test_a_stopped_clock_changes_nothing():
    """freezegun puts subclasses where datetime and date were."""
    with freezegun.freeze_time("2026-01-01"):

        def run(self, at: "datetime.datetime"): ...

        parameters = parameters_of(of(run))
        now = timezone.now()
        (back,), _ = parameters.decode(stored(parameters.encode((now,), {})))

    assert back.isoformat() == now.isoformat()


@pytest.mark.django_db
def test_a_model_is_fetched_fresh_by_one_query(django_assert_num_queries):
    ann, bob = (User.objects.create(username=name) for name in ("ann", "bob"))

    def run(self, user: User, others: list[User], *, more: dict[str, User | None]): ...

    parameters = parameters_of(of(run))
    lazy = SimpleLazyObject(lambda: ann)
    text = parameters.encode((lazy, [ann, bob]), {"more": {"x": bob, "y": None}})
    User.objects.filter(pk=bob.pk).update(first_name="Robert")

    with django_assert_num_queries(1):
        (user, others), kwargs = parameters.decode(stored(text))

    one, two = (stored_key(key_of(user)) for user in (ann, bob))
    assert json.loads(text)["args"] == [one, [one, two]]
    assert user == ann
    assert others == [ann, bob]
    assert kwargs["more"]["x"].first_name == "Robert"
    assert kwargs["more"]["y"] is None


@pytest.mark.django_db
def test_a_model_and_a_class_with_fields_in_one_parameter():
    """What is left out of the class is looked for beside a row that nobody has fetched."""
    ann = User.objects.create(username="ann")
    item = Item("x", decimal.Decimal(1))
    parameters = taking(tuple[User, Item, Kind])

    call = stored(parameters.encode(((ann, item, Kind.SMALL),), {}))

    assert parameters.decode(call) == (((ann, item, Kind.SMALL),), {})
    with pytest.raises(ArgumentsDoNotFit):
        parameters.decode(Stored([[ann.pk, {"name": "x", "price": "1", "refund": 1}, "s"]], {}))


@pytest.mark.django_db
def test_a_row_that_is_gone_is_told_apart():
    ann = User.objects.create(username="ann")
    parameters = taking(User)
    text = parameters.encode((ann,), {})
    ann.delete()

    with pytest.raises(RowMissing, match=r"auth\.User"):
        parameters.decode(stored(text))
    with pytest.raises(ValueError, match="not saved"):
        parameters.encode((ann,), {})
    with pytest.raises(ValueError, match="not saved"):
        parameters.encode((User(pk=5),), {})
