"""How far ahead tasks are claimed and sent."""

import pytest

from partisan_async.claim import Claim
from partisan_async.supervisor.ahead import batch_to_send, room_to_claim, sent_ahead
from partisan_async.supervisor.pace import BATCH_LENGTH, Pace


def claims(names):
    return [
        Claim(pk, 1, "default", name, "", 0, 0, 0, 0, False, 0, 0, 0.0)
        for pk, name in enumerate(names.split(), start=1)
    ]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, 1), (0.005, 1), (0.0049, 5), (0.001, 25), (0.0, BATCH_LENGTH)],
)
def test_a_batch_is_over_within_25_ms(seconds, expected):
    """What is not known to be short goes alone."""
    pace = Pace()
    if seconds is not None:
        pace.measure("Some", seconds)

    assert pace.batch_length("Some") == expected


@pytest.mark.parametrize(
    ("together", "others_wait", "expected"),
    [(1, False, 0), (25, False, 12), (100, False, 50), (100, True, 0)],
)
def test_a_worker_gets_its_next_batch_when_half_of_one_is_left(together, others_wait, expected):
    """Not while others wait for a worker without a sync task: they would wait for ever."""
    assert sent_ahead(together, others_wait=others_wait) == expected


@pytest.mark.parametrize(
    ("waiting", "free", "together", "expected"),
    [
        ("A", 1, 100, 1),
        ("A A A A", 1, 100, 4),
        ("A A A A", 2, 100, 2),
        ("A A A A A", 2, 100, 3),
        ("A A A A", 1, 3, 3),
        ("A A Long A", 1, 100, 2),
        ("A A Short A", 1, 100, 4),
        ("A A A", 1, 1, 1),
    ],
)
def test_one_worker_gets_its_share_of_short_tasks(waiting, free, together, expected):
    """As many as may go together, as long as the next is short too, and none for others' rooms."""
    lengths = {"A": 100, "Short": 50, "Long": 1}

    assert batch_to_send(claims(waiting), free, together, lengths.__getitem__) == expected


@pytest.mark.parametrize(
    ("free", "at_once", "soon", "buffered", "expected"),
    [
        (4, 4, 0, 0, 4),
        (4, 4, 0, 1, 3),
        (4, 4, 3, 0, 7),
        (4, 4, 1000, 0, 10),
        (4, 100, 1000, 0, 100),
        (4, 100, 1000, 99, 1),
        (0, 0, 10, 2, 8),
        (0, 0, 10, 3, 0),
        (1, 1, 10, 3, 7),
        (1, 1, 0, 3, 0),
    ],
)
def test_rows_are_claimed_for_what_can_start_now_or_soon(free, at_once, soon, buffered, expected):
    """At most 10 wait here, or what workers are sent at once; the others are anybody's."""
    room = room_to_claim(free=free, at_once=at_once, soon=soon, buffered=buffered, least=2, most=10)

    assert room == expected
