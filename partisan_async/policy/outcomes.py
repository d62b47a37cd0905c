"""Outcomes: what happened to a run in its worker."""

from __future__ import annotations

from dataclasses import dataclass

from partisan_async.config.pauses import MIDDLE
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
class Fit:
    """The config of a processor that fits an error, and what only the worker can say of a retry.

    :param place: among the processor's configs.
    :param ran_seconds: how long the run took.
    :param drawn: a number drawn from 0 to 1, for the jitter of the pause.
    :param asked_seconds: the pause, where the config has a function for it that was asked.
    """

    place: int
    ran_seconds: float = 0.0
    drawn: float = MIDDLE
    asked_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Raised:
    """``run()`` raised; without a ``fit`` its processor does not try again on such an error."""

    failure: Failure
    fit: Fit | None = None


@dataclass(frozen=True, slots=True)
class PostponeAsked:
    """``run()`` raised ``PostponeTask``; ``None`` seconds take the queue's delay.

    :param why: the reason that it gave and the error behind it, if there are any.
    :param stopping: the supervisor was stopping, and the run knew, or could.
    :param whole_key: it asked for all tasks of the key of its limit.
    """

    seconds: float | None
    why: Failure | None = None
    stopping: bool = False
    whole_key: bool = False


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """``run()`` raised ``CancelTask``; the failure is as the row is to tell it."""

    failure: Failure
    reason: str


@dataclass(frozen=True, slots=True)
class Died:
    """The worker process ended in the middle of the run; ``alone`` if it ran nothing else."""

    reason: str
    alone: bool


@dataclass(frozen=True, slots=True)
class Overran:
    """The run ignored its time limit, so its worker process, which ran nothing else, was killed.

    The other parameters are those of ``Fit``.
    """

    limit_seconds: float
    ran_seconds: float = 0.0
    drawn: float = MIDDLE


@dataclass(frozen=True, slots=True)
class Unrecognised:
    """Nothing ran: this supervisor's code does not know the processor, or its arguments."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Limited:
    """Nothing ran: the task starts under a limit, and its row does not say it.

    :param name: of the limit.
    :param key: its key there; ``None``: none.
    :param in_order: whether tasks of a key run in the order of their ids.
    """

    name: str
    key: str | None
    in_order: bool


@dataclass(frozen=True, slots=True)
class CutOff:
    """The database session of an atomic run ended during the run, or could not be opened.

    :param begun: whether ``run()`` had been called; what it wrote is rolled back.
    """

    failure: Failure
    begun: bool


Outcome = (
    Returned
    | Raised
    | PostponeAsked
    | CancelAsked
    | Died
    | Overran
    | Unrecognised
    | Limited
    | CutOff
)
