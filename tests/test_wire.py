"""Frames survive any cut of the stream, and any text in an error."""

import io
import json
import math
from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partisan_async.policy import (
    RETURNED,
    CancelAsked,
    CutOff,
    Failure,
    Fit,
    PostponeAsked,
    Raised,
    Returned,
    Unrecognised,
)
from partisan_async.worker.wire import (
    Decoder,
    Done,
    Hello,
    Revoke,
    Revoked,
    Started,
    Stopping,
    encode,
    pack,
    unpack,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBER = st.integers(0, 2**40)
FAILURES = st.builds(Failure, TEXT, TEXT, TEXT)
SECONDS = st.floats(0, 1e9)
FITS = st.builds(Fit, NUMBER, SECONDS, st.floats(0, 1), st.none() | SECONDS)
OUTCOMES = st.one_of(
    st.just(RETURNED),
    st.builds(Returned, st.none() | TEXT, st.booleans()),
    st.builds(PostponeAsked, st.none() | st.floats(0, 1e9), st.none() | FAILURES, st.booleans()),
    st.builds(Unrecognised, FAILURES),
    st.builds(Raised, FAILURES, st.none() | FITS),
    st.builds(CancelAsked, FAILURES, TEXT),
    st.builds(CutOff, FAILURES, st.booleans()),
)
FRAMES = st.one_of(
    st.builds(Hello, NUMBER, st.none() | TEXT, st.none() | TEXT),
    st.builds(Started, NUMBER, st.none() | st.floats(0, 1e9)),
    st.builds(Done, NUMBER, NUMBER, st.booleans(), OUTCOMES),
    st.builds(Revoke, NUMBER),
    st.builds(Revoked, NUMBER, NUMBER),
    st.builds(Stopping),
)


@given(st.lists(FRAMES, max_size=8), st.integers(1, 40))
def test_frames_arrive_whole_however_the_stream_is_cut(frames, size):
    stream = b"".join(map(encode, frames))
    decoder = Decoder()

    arrived = []
    for start in range(0, len(stream), size):
        arrived += decoder.feed(stream[start : start + size])

    assert arrived == frames


RIGHT = (
    ["Hello", 1, None, "x"],
    ["Started", 1, None],
    ["Started", 1, 2],
    ["Started", 1, 2.5],
    ["Revoked", 0, 1],
    ["Done", 1, 5, False, "Returned"],
    ["Done", 1, 5, True, "Returned", "1", True],
    ["Done", 1, 5, False, "PostponeAsked", 1.5, None],
    ["Done", 1, 5, False, "PostponeAsked", None, ["a", "b", "c", []]],
    ["Done", 1, 5, False, "PostponeAsked", 0, None, True],
    ["Done", 1, 5, False, "Unrecognised", ["a", "b", "c"]],
    ["Done", 1, 5, False, "Raised", ["a", "b", "c", [["x", "y", True, []]]], None],
    ["Done", 1, 5, False, "Raised", ["a", "b", "c"], [1, 2.5, 0.5, None]],
    ["Done", 1, 5, False, "Raised", ["a", "b", "c"], [0, 1, 0.5, 60]],
    ["Done", 1, 5, False, "CancelAsked", ["a", "b", "c"], "why"],
    ["Done", 1, 5, False, "CutOff", ["a", "b", "c"], True],
)
WRONG = (True, None, "x", -1, 2**63, 10**400, 1.5, math.nan, math.inf, [], ["x"], {}, {"x": 1})


def taken(fields):
    """What a frame of these fields is taken for; ``None``: it is refused."""
    try:
        (frame,) = Decoder().feed(json.dumps(fields).encode() + b"\n")
    except Exception:
        return None
    return frame


@pytest.mark.parametrize("fields", RIGHT, ids=str)
def test_a_frame_with_a_field_of_another_type_is_refused(fields):
    """A task can write there: an error that comes of it later would be the supervisor's own."""
    assert taken(fields) is not None
    for place in range(1, len(fields)):
        for wrong in WRONG:
            frame = taken([*fields[:place], wrong, *fields[place + 1 :]])
            if place == 1 and fields[0] in ("Started", "Done"):
                continue  # the ticket, which is looked up
            assert frame is None or of_their_types(frame), (place, wrong)


def of_their_types(frame):
    match frame:
        case Hello(int(pid), trouble, note):
            return pid >= 0 and {type(trouble), type(note)} <= {str, type(None)}
        case Started(_, limit):
            return limit is None or 0 <= limit < 2**63
        case Revoked(int(after), int(upto)):
            return not {type(after), type(upto)} & {bool} and min(after, upto) >= 0
        case Done(_, int(microseconds), bool(), outcome):
            is_right = type(microseconds) is int and 0 <= microseconds < 2**63
            return is_right and of_its_types(outcome)
    return False


def of_its_types(outcome):
    match outcome:
        case Returned(None | str(), bool()):
            return True
        case PostponeAsked(seconds, _, bool()):
            return seconds is None or (type(seconds) is not bool and 0 <= seconds < 2**63)
        case (
            Unrecognised(failure)
            | Raised(failure, None)
            | Raised(failure, Fit(int(), int() | float(), int() | float(), _))
            | CancelAsked(failure, str())
            | CutOff(failure, bool())
        ):
            told = (failure.exception_class, failure.message, failure.traceback)
            return all(type(each) is str for each in told)
    return False


@pytest.mark.parametrize("place", range(4))
def test_a_fit_with_a_field_of_another_type_is_refused(place):
    """It is reckoned with: an error there would be the supervisor's own."""
    for wrong in WRONG:
        fit = [1, 2.5, 0.5, 60.0]
        fit[place] = wrong
        frame = taken(["Done", 1, 5, False, "Raised", ["a", "b", "c"], fit])

        told = frame and tuple(type(each) for each in astuple(frame.outcome.fit))
        assert told in (None, (int, float, float, float), (int, float, float, type(None))), wrong


@pytest.mark.parametrize("line", [b"garbage", b"1", b"null,[", b'["Done"]', b"\xff", b""])
def test_what_comes_before_a_line_that_is_no_frame_is_handed_out(line):
    """In one piece too: a start that is lost is a run that nobody counts, again and again."""
    frames = [Started(1, None), Done(1, 5, False, RETURNED), Started(2, None)]

    each = Decoder().feed(b"".join(map(encode, frames)) + line + b"\n" + encode(frames[0]))
    assert [next(each) for _ in frames] == frames
    with pytest.raises(Exception):  # noqa: B017  of any class
        next(each)


FIELDS = st.lists(TEXT | NUMBER | st.floats(0, 1e9) | st.booleans() | st.none())
TASKS = st.lists(st.tuples(NUMBER, FIELDS).map(list))


@given(st.lists(TASKS), TASKS, st.integers(0, 9))
def test_tasks_arrive_whole_or_not_at_all(batches, cut, size):
    """A supervisor that dies may leave half a line."""
    feed = b"".join(map(pack, batches)) + pack(cut)[:-1][:size]

    assert list(unpack(io.BytesIO(feed))) == batches
