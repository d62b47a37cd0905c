"""What the supervisor is told of a run that is over; something, whatever the run did."""

from __future__ import annotations

from partisan_async.policy import Failure, Outcome, Raised
from partisan_async.worker import wire


def done(ticket: int, seconds: float, overran: bool, outcome: Outcome) -> bytes:
    """Return the frame that tells it.

    :param seconds: how long the run took.
    :param overran: it took longer than it might.
    """
    microseconds = int(seconds * 1e6)
    try:
        return wire.encode(wire.Done(ticket, microseconds, overran, outcome))
    except BaseException as error:  # noqa: BLE001  an outcome that is no plain data after all
        return wire.encode(wire.Done(ticket, microseconds, overran, unknown_outcome(error)))


def unknown_outcome(error: BaseException) -> Outcome:
    """Return what stands for an outcome that could not be told.

    :param error: why not.
    """
    failure = Failure(type(error).__name__, "What became of this task could not be told.")
    return Raised(failure, retryable=False)
