"""The formulas of the pauses between tries. Nothing is drawn here: who asks has drawn."""

from typing import assert_never

from partisan_async.config import const

MIDDLE = 0.5
"""A draw that changes nothing: the pause itself."""

MOST_DOUBLINGS = 62
"""A pause that was doubled so often is longer than any may be; more would be no number."""


def nth_pause(strategy: const.DelayStrategy, pause: float, retry: int) -> float:
    """Return the pause before the ``retry``-th retry, counted from 1, in seconds."""
    match strategy:
        case const.DELAY_STRATEGY_CONSTANT:
            return pause
        case const.DELAY_STRATEGY_INCREMENTAL:
            return pause * retry
        case const.DELAY_STRATEGY_EXPONENTIAL:
            return pause * 2.0 ** min(retry - 1, MOST_DOUBLINGS)
        case _:
            assert_never(strategy)


def jittered(pause: float, jitter: float, drawn: float) -> float:
    """Return a pause from ``pause * (1 - jitter)``, drawn 0, to ``pause * (1 + jitter)``, drawn 1.

    One whose jitter is 0 is returned as it is.
    """
    return pause * (1 + jitter * (2 * drawn - 1)) if jitter else pause
