"""The pauses between attempts."""

from __future__ import annotations

from partisan_async.supervisor.backoff import Backoff


def test_pauses_double_up_to_the_cap() -> None:
    """A fault that lasts costs little; one that passes is over soon."""
    backoff = Backoff(0.1, 0.5)

    assert [backoff.next() for _ in range(5)] == [0.1, 0.2, 0.4, 0.5, 0.5]
    assert backoff.count == 5


def test_a_success_begins_anew() -> None:
    """The next fault has nothing to do with the last one."""
    backoff = Backoff(1.0, 60.0)
    backoff.next()
    backoff.next()

    backoff.reset()

    assert backoff.count == 0
    assert backoff.next() == 1.0


def test_no_pause_is_longer_than_the_cap() -> None:
    """Where heartbeats come every 0.1 s, the first pause is no longer either."""
    assert Backoff(0.2, 0.1).next() == 0.1
