"""The life of a worker process: its states, and what follows from each."""

import pytest

from partisan_async.supervisor.workers.life import Life
from partisan_async.supervisor.workers.state import State, may_follow

MOVES = {
    "STARTING": "READY GARBLED KILLED DIED",
    "READY": "TO_REPLACE SPENT CLOSING GARBLED KILLED DIED",
    "TO_REPLACE": "SPENT CLOSING GARBLED KILLED DIED",
    "SPENT": "CLOSING GARBLED KILLED DIED",
    "CLOSING": "GARBLED KILLED ENDED",
    "GARBLED": "KILLED DIED",
    "KILLED": "ENDED",
    "DIED": "ENDED",
    "ENDED": "",
}


@pytest.mark.parametrize("before", list(State), ids=lambda state: state.name)
def test_which_state_may_follow_which(before):
    followers = {after.name for after in State if may_follow(before, after)}

    assert followers == set(MOVES[before.name].split())


def life(*states):
    made = Life()
    for state in states:
        assert made.become(state)
    return made


@pytest.mark.parametrize(
    ("states", "end"),
    [
        ([State.READY], State.DIED),
        ([State.READY, State.GARBLED], State.DIED),
        ([State.READY, State.KILLED], State.ENDED),
        ([State.READY, State.GARBLED, State.KILLED], State.ENDED),
        ([State.READY, State.CLOSING], State.ENDED),
        ([State.KILLED], State.ENDED),
    ],
    ids=str,
)
def test_whose_doing_its_end_was(states, end):
    """Who is woken by the number of deaths wants to hear of crashes alone."""
    process = life(*states)

    process.end()

    assert process.state is end
    assert process.is_gone
    assert not process.is_up
    assert process.over.is_set()
    assert process.empty.is_set()


def test_a_death_stays_one_whatever_comes_late():
    """Feed and link end one after the other, and a kill may come between."""
    process = life(State.READY)
    process.end()

    assert not process.become(State.KILLED)
    process.end()

    assert process.state is State.DIED


def test_a_hello_that_comes_late_revives_nothing():
    process = life(State.KILLED)

    assert not process.become(State.READY)
    assert process.state is State.KILLED


def test_one_that_is_spent_is_over_at_once_and_empty_when_idle():
    process = life(State.READY, State.SPENT)
    assert process.over.is_set()
    assert not process.empty.is_set()

    process.note_idle()

    assert process.empty.is_set()


def test_one_that_is_to_be_replaced_is_over_when_idle():
    """Not before: what comes and goes side by side in it would keep two in one place."""
    process = life(State.READY, State.TO_REPLACE)
    assert not process.over.is_set()

    process.note_idle()

    assert process.state is State.SPENT
    assert process.over.is_set()
    assert process.empty.is_set()


def test_an_idle_one_that_is_ready_stays():
    process = life(State.READY)

    process.note_idle()

    assert process.state is State.READY
    assert not process.over.is_set()
