"""Decides what becomes of a run: its outcome, rules and counters in, one decision out.

*Outcome*: what happened in the worker. *Decision*: what is written on the row. Nothing here reads a
clock, a row or a setting, so each rule can be read, and tested, as a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Protocol, assert_never

from partisan_async.config.processor_configs import ErrorsHandleConfig
from partisan_async.exceptions import (
    MaxPostponesReached,
    ProcessorClassNotFound,
    TaskTimeout,
    WorkerLost,
)

MAX_LOST = 3
"""A task that takes its worker process down so often, alone, ends in error."""

MAX_UNRECOGNISED = 15
"""Supervisors that may meet a task without knowing its processor: a rolling deploy's time."""

MAX_INTERRUPTED = 20
"""A row whose claims ended so often, one after the other, without an outcome is rescued no more."""

MAX_CUT_OFF = 15
"""A run whose session was ended under it runs again, until its row was interrupted so often."""

LONGEST_CUT_OFF_PAUSE_SECONDS = 60

UNRECOGNISED_PAUSE = timedelta(seconds=60)


Chain = Sequence[Sequence[Any]]
"""An error, then the one behind it, and so on. Each is its class's dotted name, its message,
whether it is the cause of the one before (else it was merely handled), and its frames, the
outermost first: file, line, function, module."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What the row tells about an error.

    :param chain: what log handlers are told beside it, by ``text.retold``; no row has it.
    """

    exception_class: str
    message: str
    traceback: str = ""
    chain: Chain = field(default=(), compare=False, repr=False)

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Return the failure that an exception made here, not raised, stands for."""
        return cls(class_path(error), str(error))


# Outcomes


@dataclass(frozen=True, slots=True)
class Returned:
    """``run()`` came back.

    :param result: JSON of what it returned, where that is kept and is not ``None``.
    :param settled: the row tells already: an atomic run commits its end with its work.
    """

    result: str | None = None
    settled: bool = False


RETURNED = Returned()
"""What most runs do: there is nothing to keep."""


@dataclass(frozen=True, slots=True)
class Raised:
    """``run()`` raised; ``retryable`` says whether its processor names the error for retries."""

    failure: Failure
    retryable: bool


@dataclass(frozen=True, slots=True)
class PostponeAsked:
    """``run()`` raised ``PostponeTask``; ``None`` seconds are the queue's own delay.

    :param why: the reason that it gave, and the error that it came from, if there is either.
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
    """The run did not heed its time limit, alone in its worker process, which was killed."""

    limit_seconds: float


@dataclass(frozen=True, slots=True)
class Unrecognised:
    """Nothing ran: this supervisor does not know the processor."""

    processor_name: str


@dataclass(frozen=True, slots=True)
class CutOff:
    """An atomic run's session with the database was ended under it, or could not be had.

    :param begun: ``run()`` had been called; what it wrote is rolled back.
    """

    failure: Failure
    begun: bool


Outcome = Returned | Raised | PostponeAsked | Died | Overran | Unrecognised | CutOff


# Decisions


@dataclass(frozen=True, slots=True)
class Finished:
    """It is done; the parameters are those of ``Returned``."""

    result: str | None = None
    settled: bool = False


_FINISHED = Finished()


@dataclass(frozen=True, slots=True)
class Retried:
    """It failed, and runs again after the pause."""

    pause: timedelta
    failure: Failure


@dataclass(frozen=True, slots=True)
class Postponed:
    """It asked to run again after the pause; ``failure`` tells why, where it said so."""

    pause: timedelta
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """It ends in ``error``; ``lost`` if it took its worker down once more."""

    failure: Failure
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Suspected:
    """Its worker died: it runs again, alone; with a failure where the blame is proven."""

    failure: Failure | None


@dataclass(frozen=True, slots=True)
class Deferred:
    """It waits for a supervisor that knows its processor."""

    pause: timedelta


@dataclass(frozen=True, slots=True)
class GivenBack:
    """It was not run to its end through no doing of its own, and waits again as before."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """It runs again after the pause, since its session was ended or could not be had.

    :param counted: its row is to remember that it was.
    """

    pause: timedelta
    failure: Failure
    counted: bool = True


Decision = Finished | Retried | Postponed | Failed | Suspected | Deferred | GivenBack | Interrupted


@dataclass(frozen=True, slots=True)
class Rules:
    """What a processor and its queue say about a task's end.

    :param stores_result: the row is kept when it has ended, and whoever waits for that is told.
    """

    errors: ErrorsHandleConfig | None
    max_postpones: int | None
    postpone_delay: timedelta
    stores_result: bool = False


class Counters(Protocol):
    """What the row counted before this run."""

    @property
    def tries(self) -> int: ...
    @property
    def postpones(self) -> int: ...
    @property
    def lost(self) -> int: ...
    @property
    def unrecognised(self) -> int: ...
    @property
    def interrupted(self) -> int: ...


def decide(outcome: Outcome, rules: Rules, counters: Counters) -> Decision:
    """Return what becomes of a task after a run that ended with this outcome."""
    match outcome:
        case Returned(None, False):
            return _FINISHED
        case Returned(result, settled):
            return Finished(result, settled)
        case Raised(failure, retryable):
            return _after_error(failure, retryable, rules.errors, counters)
        case Overran(seconds):
            error = TaskTimeout(seconds, killed=True)
            retryable = rules.errors is not None and rules.errors.retries(error)
            return _after_error(Failure.of(error), retryable, rules.errors, counters)
        case PostponeAsked(postpone_seconds, why):
            limit = rules.max_postpones
            if limit is not None and counters.postpones >= limit:
                return Failed(_once_too_often(limit, why))
            pause = (
                rules.postpone_delay
                if postpone_seconds is None
                else timedelta(seconds=postpone_seconds)
            )
            return Postponed(pause, why)
        case Died(reason, alone):
            if not alone:
                return Suspected(None)
            failure = Failure.of(WorkerLost(reason))
            if counters.lost + 1 < MAX_LOST:
                return Suspected(failure)
            return Failed(failure, lost=True)
        case Unrecognised(processor_name):
            if counters.unrecognised < MAX_UNRECOGNISED:
                return Deferred(UNRECOGNISED_PAUSE)
            return Failed(Failure.of(ProcessorClassNotFound(processor_name)))
        case CutOff(failure, begun):
            return _after_cut(failure, begun, counters)
        case _:
            assert_never(outcome)


def _once_too_often(limit: int, why: Failure | None) -> Failure:
    failure = Failure.of(MaxPostponesReached(limit))
    if why is None:
        return failure
    told = f"{failure.message} The last time it was for: {why.message}"
    return replace(failure, message=told, traceback=why.traceback)


def _after_cut(failure: Failure, begun: bool, counters: Counters) -> Decision:
    if begun and counters.interrupted >= MAX_CUT_OFF:
        return Failed(failure)
    seconds = min(2 ** max(0, min(counters.interrupted, 10)), LONGEST_CUT_OFF_PAUSE_SECONDS)
    # What never began proves nothing against it: it is counted for the pause alone, to its end.
    counted = begun or seconds < LONGEST_CUT_OFF_PAUSE_SECONDS
    return Interrupted(timedelta(seconds=seconds), failure, counted)


def _after_error(
    failure: Failure, retryable: bool, config: ErrorsHandleConfig | None, counters: Counters
) -> Decision:
    if not retryable or config is None or counters.tries >= config.retries_count:
        return Failed(failure)
    return Retried(timedelta(seconds=config.pause_seconds(counters.tries + 1)), failure)


def class_path(error: BaseException) -> str:
    """Return the dotted name of an error's class, as rows tell it."""
    return f"{type(error).__module__}.{type(error).__qualname__}"
