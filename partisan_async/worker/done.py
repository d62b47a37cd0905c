"""Makes the frame that reports the end of a run, even if its outcome cannot be encoded."""

from __future__ import annotations

from partisan_async.policy import Failure, Outcome, Raised
from partisan_async.worker import wire


def done(ticket: int, seconds: float, overran: bool, outcome: Outcome) -> bytes:
    """Return the frame for a run that is over.

    :param seconds: how long the run took.
    :param overran: whether it took longer than its time limit.
    """
    microseconds = int(seconds * 1e6)
    try:
        return wire.encode(wire.Done(ticket, microseconds, overran, outcome))
    except BaseException as error:  # noqa: BLE001  the outcome is no plain data
        return wire.encode(wire.Done(ticket, microseconds, overran, unknown_outcome(error)))


def unknown_outcome(error: BaseException) -> Outcome:
    """Return an outcome in place of one that cannot be reported.

    :param error: the reason.
    """
    failure = Failure(type(error).__name__, "What became of this task could not be told.")
    return Raised(failure)
