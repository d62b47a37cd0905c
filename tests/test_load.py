"""What is in a worker process, as its supervisor counts it."""

import pytest

from partisan_async.supervisor.workers.load import Load
from tests.claims import claim


def sent(*kinds, limit=100):
    """Return a load that was sent tasks one by one, each ``sync`` or ``async``."""
    load = Load(limit)
    for number, kind in enumerate(kinds):
        batch = [claim(id=number)]
        load.add(batch, 1.0, is_async=kind == "async", alone=False, short=True)
    return load


def ids(runs):
    return [run.claim.id for run in runs]


def test_each_task_has_a_ticket_of_its_own():
    """Feed and link name it by that; the id may come again."""
    load = Load(100)

    first = load.add([claim(id=1)] * 2, 1.0, is_async=False, alone=False, short=False)
    second = load.add([claim(id=1)], 1.0, is_async=True, alone=False, short=False)

    assert [ticket for ticket, _ in first + second] == [1, 2, 3] == list(load.runs)
    assert (load.open_sync, load.open_async, load.remaining, load.last_ticket) == (2, 1, 97, 3)


@pytest.mark.parametrize(
    ("kinds", "started", "waits"),
    [
        ([], [], False),
        (["sync"], [], True),
        (["sync"], [1], False),
        (["sync", "sync"], [1], True),
        (["async"], [], True),
        (["async", "async"], [1], True),
        (["async", "async"], [1, 2], False),
        (["sync", "async"], [1], True),
        (["sync", "async"], [1, 2], False),
    ],
)
def test_what_waits_in_it(kinds, started, waits):
    load = sent(*kinds)
    for ticket in started:
        load.start(ticket, None, 2.0)

    assert load.has_unstarted is waits


def test_it_is_busy_while_a_sync_task_runs():
    load = sent("sync", "async")
    load.start(2, None, 2.0)
    assert load.busy_since is None
    load.start(1, None, 3.0)
    assert load.busy_since == 3.0
    load.end(2, 4.0)
    assert load.busy_since == 3.0
    load.end(1, 5.0)
    assert load.busy_since is None


@pytest.mark.parametrize(
    ("after", "upto", "back"),
    [
        (1, 4, [1, 3]),  # the first has started, and so has one that is async
        (2, 4, [3]),
        (1, 2, [1]),
        (4, 4, [3]),  # an async one comes back unless its start was told
    ],
)
def test_what_comes_back(after, upto, back):
    """The worker names the last sync task that it has begun."""
    load = sent("sync", "sync", "async", "async", limit=10)
    load.start(1, None, 2.0)
    load.start(3, None, 2.0)
    load.asked_back = True

    runs = load.take_back(after, upto, 3.0)

    assert ids(runs) == back
    assert load.remaining == 6 + len(back)
    assert len(load.runs) == 4 - len(back)
    assert not load.asked_back


def test_a_suspect_is_in_it_until_it_ends():
    load = Load(100)
    load.add([claim()], 1.0, is_async=False, alone=True, short=False)
    assert load.runs_suspect

    load.end(1, 2.0)

    assert not load.runs_suspect


def test_one_that_died_gives_up_what_is_in_it():
    """And stays a suspect's: no other one is to take its slot for empty."""
    load = Load(100)
    load.add([claim(id=1), claim(id=2)], 1.0, is_async=True, alone=True, short=False)
    load.start(2, None, 2.0)
    tickets = load.runs

    started, unstarted = load.give_up()

    assert (ids(started), ids(unstarted)) == ([2], [1])
    assert (load.open_sync, load.open_async, load.has_unstarted) == (0, 0, False)
    assert load.runs is tickets  # the link goes by it
    assert not tickets
    assert load.runs_suspect


def test_what_it_runs_is_told_with_its_seconds():
    load = sent("sync", "sync")
    load.start(1, None, 2.0)

    assert load.running(5.5) == [{"id": 0, "processor": "Nothing", "seconds": 3.5}]
