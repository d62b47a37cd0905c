"""Frames survive any cut of the stream, and any text in an error."""

import io

from hypothesis import given
from hypothesis import strategies as st

from partisan_async.policy import (
    RETURNED,
    CutOff,
    Failure,
    PostponeAsked,
    Raised,
    Returned,
    Unrecognised,
)
from partisan_async.supervisor.wire import (
    Decoder,
    Done,
    Hello,
    Revoke,
    Revoked,
    Started,
    encode,
    pack,
    unpack,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBER = st.integers(0, 2**40)
OUTCOMES = st.one_of(
    st.just(RETURNED),
    st.builds(Returned, st.none() | TEXT, st.booleans()),
    st.builds(PostponeAsked, st.none() | st.floats(0, 1e9)),
    st.builds(Unrecognised, TEXT),
    st.builds(Raised, st.builds(Failure, TEXT, TEXT, TEXT), st.booleans()),
    st.builds(CutOff, st.builds(Failure, TEXT, TEXT, TEXT), st.booleans()),
)
FRAMES = st.one_of(
    st.builds(Hello, NUMBER, st.none() | TEXT, st.none() | TEXT),
    st.builds(Started, NUMBER, st.none() | st.floats(0, 1e9)),
    st.builds(Done, NUMBER, NUMBER, st.booleans(), OUTCOMES),
    st.builds(Revoke, NUMBER),
    st.builds(Revoked, NUMBER, NUMBER),
)


@given(st.lists(FRAMES, max_size=8), st.integers(1, 40))
def test_frames_arrive_whole_however_the_stream_is_cut(frames, size):
    stream = b"".join(map(encode, frames))
    decoder = Decoder()

    arrived = []
    for start in range(0, len(stream), size):
        arrived += decoder.feed(stream[start : start + size])

    assert arrived == frames


FIELDS = st.lists(TEXT | NUMBER | st.floats(0, 1e9) | st.booleans() | st.none())
TASKS = st.lists(st.tuples(NUMBER, FIELDS).map(list))


@given(st.lists(TASKS), TASKS, st.integers(0, 9))
def test_tasks_arrive_whole_or_not_at_all(batches, cut, size):
    """A supervisor that dies may leave half a line."""
    feed = b"".join(map(pack, batches)) + pack(cut)[:-1][:size]

    assert list(unpack(io.BytesIO(feed))) == batches
