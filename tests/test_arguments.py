"""What may be passed to a task, and what one is told otherwise."""

import datetime
import decimal
import json
import pathlib
import uuid

import pytest
from django.contrib.auth.models import User
from django.utils.translation import gettext_lazy
from hypothesis import example, given
from hypothesis import strategies as st

from partisan_async.enqueue.arguments import digest, encode

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    lambda children: (
        st.lists(children)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")), children
        )
    ),
    max_leaves=20,
)


@given(st.lists(JSON), st.dictionaries(st.text("abc", min_size=1), JSON))
def test_json_comes_back_as_it_was(args, kwargs):
    assert json.loads(encode(tuple(args), kwargs)) == {"args": args, "kwargs": kwargs}


@given(st.lists(JSON), st.dictionaries(st.text('ab"é', min_size=1), JSON))
@example(['"\\\n\x7f', 2**63 - 1, -(2**63), 2**63], {})
@example([True, 1, False, 0, None, -1], {"b": 1, "a": "", "B": None, "\t": True})
def test_one_call_has_one_spelling(args, kwargs):
    """Calls are identical by their text, and plain values have a faster way to it."""
    canonical = json.dumps(
        {"args": args, "kwargs": kwargs}, sort_keys=True, separators=(",", ":"), allow_nan=False
    )

    assert encode(tuple(args), kwargs) == canonical


def test_tuples_become_lists_at_any_depth():
    assert json.loads(encode(((1, (2,)),), {}))["args"] == [[1, [2]]]


def test_the_order_of_keys_does_not_matter():
    one, other = encode((), {"a": 1, "b": 2}), encode((), {"b": 2, "a": 1})

    assert digest("P", one) == digest("P", other)
    assert digest("P", one) != digest("Q", one)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (User(), "primary key"),
        (datetime.datetime(2026, 1, 1), "isoformat"),
        (datetime.date(2026, 1, 1), "isoformat"),
        (datetime.timedelta(1), "total_seconds"),
        (decimal.Decimal("1"), "str"),
        (uuid.uuid4(), "str"),
        (gettext_lazy("x"), "str"),
        (pathlib.Path("x"), "fspath"),
        (b"x", "base64"),
        ({1}, "sorted"),
        (object(), "str, int"),
    ],
)
def test_what_is_not_json_is_refused_with_a_way_out(value, hint):
    with pytest.raises(TypeError, match=hint) as refused:
        encode((1, {"deep": [value]}), {})

    assert "args[1]['deep'][0] is of type" in str(refused.value)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (float("nan"), "nan"),
        (float("-inf"), "inf"),
        ("a\x00b", "NUL"),
        ("\ud800", "surrogate"),
        pytest.param(10**5000, "digits", id="huge"),
    ],
)
def test_what_postgresql_cannot_store_is_refused(value, what):
    with pytest.raises(ValueError, match=what) as refused:
        encode((), {"key": [value]})

    assert "kwargs['key'][0]" in str(refused.value)


def test_keys_that_json_would_change_are_refused():
    """{1: "a"} would arrive as {"1": "a"}."""
    with pytest.raises(TypeError, match="key 1 of type int"):
        encode(({1: "a"},), {})


def test_a_nul_in_a_key_is_refused():
    with pytest.raises(ValueError, match="a key of args"):
        encode(({"\x00": 1},), {})


def test_a_nul_in_the_name_of_an_argument_is_refused():
    with pytest.raises(ValueError, match="the name of kwargs"):
        encode((), {"a\x00": 1})


def test_what_contains_itself_is_refused():
    endless = []
    endless.append(endless)

    with pytest.raises(ValueError, match="contain themselves"):
        encode((endless,), {})


def test_an_escaped_nul_is_plain_text():
    """The six characters are no NUL, though their JSON looks much like one's."""
    assert json.loads(encode(("\\u0000",), {}))["args"] == ["\\u0000"]
