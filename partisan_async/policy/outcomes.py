"""Outcomes: what happened to a run in its worker."""

from __future__ import annotations

from dataclasses import dataclass

from partisan_async.policy.failure import Failure


@dataclass(frozen=True, slots=True)
class Returned:
    """``run()`` returned.

    :param result: the returned value as JSON, if it is kept and is not ``None``.
    :param settled: the row has ended already: an atomic run commits its end with its work.
    """

    result: str | None = None
    settled: bool = False


RETURNED = Returned()
"""The outcome of most runs: there is no result to keep."""


@dataclass(frozen=True, slots=True)
class Raised:
    """``run()`` raised; ``retryable`` says whether its processor names the error for retries."""

    failure: Failure
    retryable: bool


@dataclass(frozen=True, slots=True)
class PostponeAsked:
    """``run()`` raised ``PostponeTask``; ``None`` seconds take the queue's delay.

    :param why: the reason that it gave and the error behind it, if there are any.
    """

    seconds: float | None
    why: Failure | None = None


@dataclass(frozen=True, slots=True)
class Died:
    """The worker process ended in the middle of the run; ``alone`` if it ran nothing else."""

    reason: str
    alone: bool


@dataclass(frozen=True, slots=True)
class Overran:
    """The run ignored its time limit, so its worker process, which ran nothing else, was killed."""

    limit_seconds: float


@dataclass(frozen=True, slots=True)
class Unrecognised:
    """Nothing ran: this supervisor's code does not know the processor, or its arguments."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class CutOff:
    """The database session of an atomic run ended during the run, or could not be opened.

    :param begun: whether ``run()`` had been called; what it wrote is rolled back.
    """

    failure: Failure
    begun: bool


Outcome = Returned | Raised | PostponeAsked | Died | Overran | Unrecognised | CutOff
