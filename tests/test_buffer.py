"""Which claims wait, in which order, and for which kind of room."""

import pytest

from partisan_async.claim import Claim
from partisan_async.supervisor.buffer import Buffer
from partisan_async.supervisor.kind import Kind

KINDS = {"Sync": Kind.SYNC, "Async": Kind.ASYNC, "Alone": Kind.ALONE}


def claim(pk, processor="Sync", priority=0, seq=1):
    return Claim(pk, seq, "default", processor, "", priority, 0, 0, 0, False, 0, 0, 0.0)


def ids(claims):
    return [each.id for each in claims]


@pytest.fixture
def buffer():
    return Buffer(lambda each: KINDS.get(each.processor_class))


def test_each_kind_waits_for_a_room_of_its_own(buffer):
    """One that finds no room leaves the workers to the other kinds."""
    buffer.add([claim(1), claim(2, "Async"), claim(3, "Alone"), claim(4)])

    assert [ids(buffer.of(kind)) for kind in (Kind.SYNC, Kind.ASYNC, Kind.ALONE)] == [
        [1, 4],
        [2],
        [3],
    ]
    assert len(buffer) == 4
    assert set(buffer.kinds()) == set(Kind)


def test_what_is_not_known_here_does_not_wait(buffer):
    """Its outcome is known without a run."""
    assert ids(buffer.add([claim(1), claim(2, "Gone")])) == [2]
    assert ids(buffer.claims()) == [1]


@pytest.mark.parametrize(
    ("first", "expected"),
    [(False, [5, 6, 3, 4]), (True, [3, 4, 5, 6])],
    ids=["claimed", "rescued"],
)
def test_rows_are_added_behind_those_that_wait_or_before_them(buffer, first, expected):
    """Rescued rows were claimed before, by whomever; the claim's order is kept in both cases."""
    buffer.add([claim(5), claim(6)])

    buffer.add([claim(3), claim(4)], first=first)

    assert ids(buffer.of(Kind.SYNC)) == expected


def test_what_comes_back_from_a_worker_takes_its_place_again(buffer):
    """By priority and id, as it was claimed."""
    buffer.add([claim(1, priority=5), claim(7), claim(9)])

    buffer.put_back([claim(8), claim(2, priority=-1)])

    assert ids(buffer.of(Kind.SYNC)) == [2, 7, 8, 9, 1]


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [
        ([claim(2), claim(1, "Async")], Kind.ASYNC),
        ([claim(2, priority=-1), claim(1, "Async")], Kind.SYNC),
        ([claim(2), claim(3, "Async"), claim(1, "Alone", priority=1)], Kind.SYNC),
    ],
)
def test_the_kind_whose_first_task_comes_first_is_next(buffer, waiting, expected):
    """Priority holds across kinds."""
    buffer.add(waiting)

    assert buffer.next_of(buffer.kinds()) is expected


def test_what_a_worker_has_waits_no_more(buffer):
    """A worker takes some from the front."""
    buffer.add([claim(1), claim(2), claim(3)])

    buffer.remove(Kind.SYNC, 2)

    assert ids(buffer.claims()) == [3]


def test_a_claim_is_dropped_by_its_number_too(buffer):
    """The same row, claimed again, is another claim."""
    buffer.add([claim(1, seq=1), claim(2, seq=4)])

    buffer.drop({(1, 1), (2, 3)})

    assert ids(buffer.claims()) == [2]


def test_all_that_wait_can_be_taken_out(buffer):
    """They are given back then."""
    buffer.add([claim(1), claim(2, "Async")])

    assert sorted(ids(buffer.empty())) == [1, 2]
    assert len(buffer) == 0
    assert buffer.kinds() == []
