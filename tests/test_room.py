"""How much one worker process is sent, and what it is asked back: the table of ``room``."""

import pytest

from partisan_async.supervisor.workers import room
from partisan_async.supervisor.workers.load import Load
from tests.claims import claim

NOW = 100.0
FRESH = NOW - room.OVERDUE_SECONDS / 2
OVERDUE = NOW - room.OVERDUE_SECONDS


def load(short=0, long=0, asynchronous=0, *, suspect=False, limit=100, since=None, asked=False):
    """Return a load: so many sync tasks of a kind, and async ones; the first began ``since``."""
    made = Load(limit)
    for count, is_async, is_short in (
        (short, False, True),
        (long, False, False),
        (asynchronous, True, False),
    ):
        if count:
            sent = [claim()] * count
            made.add(sent, OVERDUE, is_async=is_async, alone=suspect, short=is_short)
    if since is not None:
        made.start(1, None, since)
    made.asked_back = asked
    return made


SYNC = [
    # what is in it, and how many tasks may be ahead of the next: whether it takes a sync one
    (load(), 0, True),
    (load(), 3, True),
    (load(asynchronous=2), 0, True),
    (load(asynchronous=2, suspect=True), 0, False),
    (load(long=1, suspect=True), 3, False),
    (load(short=1), 0, False),
    (load(short=1), 1, True),
    (load(short=3), 3, True),
    (load(short=4), 3, False),
    (load(long=1), 3, False),
    (load(short=1, long=1), 3, False),
    (load(short=2, since=FRESH), 3, True),
    (load(short=2, since=OVERDUE), 3, False),
    (load(short=2, since=FRESH, asked=True), 3, False),
    (load(asked=True), 3, True),
]


@pytest.mark.parametrize(("load", "ahead", "answer"), SYNC)
def test_where_a_sync_task_goes(load, ahead, answer):
    """To a worker without one; a short one behind short ones, too, while these are short."""
    assert room.takes_sync(load, ahead, NOW) is answer


ASYNC = [
    # what is in it: how many async tasks it takes, of 10 side by side
    (load(), 10),
    (load(asynchronous=4), 6),
    (load(asynchronous=10), 0),
    (load(asynchronous=4, limit=5), 1),
    (load(asynchronous=1, suspect=True), 0),
    (load(short=1), 0),
    (load(long=1, since=FRESH), 0),
]


@pytest.mark.parametrize(("load", "answer"), ASYNC)
def test_where_async_tasks_go(load, answer):
    """Where nothing keeps them from starting: the main thread is what puts them on the loop."""
    assert room.async_room(load, 10, NOW) == answer


@pytest.mark.parametrize(
    ("until", "answer"), [(NOW + 0.1, 0), (NOW, 10), (0.0, 10)], ids=["blocked", "over", "never"]
)
def test_none_goes_to_a_loop_that_is_blocked(until, answer):
    """Running fewest tasks it would get the next ones, and keep them."""
    blocked = load()
    blocked.loop_blocked_until = until

    assert room.async_room(blocked, 10, NOW) == answer


BEHIND = [
    (load(), False),
    (load(short=1, since=OVERDUE), False),
    (load(short=2, since=FRESH), False),
    (load(short=2, since=OVERDUE), True),
    (load(long=2, since=OVERDUE), True),
    (load(short=2), False),
]


@pytest.mark.parametrize(("load", "answer"), BEHIND)
def test_sync_tasks_behind_an_overdue_one_are_asked_back(load, answer):
    """One that took longer than it was measured to is not short."""
    assert room.waits_behind_overdue(load, NOW) is answer


def test_async_tasks_are_asked_back_from_a_loop_that_starts_none():
    """Once while it is spared: what is sent after that shows whether it moves."""
    waiting = load(asynchronous=2)
    assert room.waits_for_blocked_loop(waiting, NOW)
    assert not room.waits_for_blocked_loop(waiting, NOW - room.OVERDUE_SECONDS / 2)

    waiting.loop_blocked_until = NOW + 1
    assert not room.waits_for_blocked_loop(waiting, NOW)

    waiting.start(1, None, NOW)
    assert waiting.loop_blocked_until == 0.0
    assert not room.waits_for_blocked_loop(waiting, NOW)
    assert room.waits_for_blocked_loop(waiting, NOW + room.OVERDUE_SECONDS)
    waiting.start(2, None, NOW)
    assert not room.waits_for_blocked_loop(waiting, NOW + room.OVERDUE_SECONDS)
