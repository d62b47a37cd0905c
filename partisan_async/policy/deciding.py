"""Turns an outcome, the rules of processor and queue, and the counters of a row into a decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol, assert_never

from partisan_async.config.processor_configs import ErrorsHandleConfig, first_fit
from partisan_async.exceptions import (
    MaxPostponesReached,
    TaskTimeout,
    WorkerLost,
)
from partisan_async.policy.decisions import (
    Cancelled,
    Decision,
    Deferred,
    Failed,
    Finished,
    Interrupted,
    Postponed,
    PutUnder,
    Suspected,
)
from partisan_async.policy.failure import Failure
from partisan_async.policy.outcomes import (
    CancelAsked,
    CutOff,
    Died,
    Fit,
    Limited,
    Outcome,
    Overran,
    PostponeAsked,
    Raised,
    Returned,
    Unrecognised,
)
from partisan_async.policy.retrying import after_error

MAX_LOST = 3
"""Number of worker processes that a task may take down while it runs alone; then it ends in error.
"""

MAX_UNRECOGNISED = 15
"""Number of claims by supervisors that do not know the task's processor or its arguments before it
ends in error. It covers the time of a rolling deploy."""

MAX_INTERRUPTED = 20
"""Number of runs in a row that were cut short after which the row is no longer rescued."""

MAX_CUT_OFF = 15
"""Number of interruptions after which a run whose database session ends is not repeated."""

LONGEST_CUT_OFF_PAUSE_SECONDS = 60

UNRECOGNISED_PAUSE = timedelta(seconds=60)

_FINISHED = Finished()


@dataclass(frozen=True, slots=True)
class Rules:
    """What a processor and its queue declare about a task's end.

    :param errors: the first that fits an error holds.
    :param stores_result: the row is kept at its end, and whoever waits for that end is told.
    """

    errors: Sequence[ErrorsHandleConfig]
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
    @property
    def trying_seconds(self) -> float | None: ...
    @property
    def limit_name(self) -> str | None: ...


def decide(outcome: Outcome, rules: Rules, counters: Counters) -> Decision:
    """Return what becomes of a task after a run that ended with this outcome."""
    match outcome:
        case Returned(None, False):
            return _FINISHED
        case Returned(result, settled):
            return Finished(result, settled)
        case Raised(failure, fit):
            return _after_error(failure, fit, rules, counters)
        case Overran(limit_seconds, ran_seconds, drawn):
            error = TaskTimeout(limit_seconds, killed=True)
            place = first_fit(rules.errors, error)
            fits = None if place is None else Fit(place, ran_seconds, drawn)
            return _after_error(Failure.of(error), fits, rules, counters)
        case PostponeAsked():
            return _after_asking(outcome, rules, counters)
        case CancelAsked(failure, reason):
            return Cancelled(failure, reason)
        case Died(reason, alone):
            if not alone:
                return Suspected(None)
            failure = Failure.of(WorkerLost(reason))
            if counters.lost + 1 < MAX_LOST:
                return Suspected(failure)
            return Failed(failure, lost=True)
        case Unrecognised(failure):
            if counters.unrecognised < MAX_UNRECOGNISED:
                return Deferred(UNRECOGNISED_PAUSE, failure)
            return Failed(failure)
        case Limited(name, key, in_order):
            return PutUnder(name, key, in_order)
        case CutOff(failure, begun):
            return _after_cut(failure, begun, counters)
        case _:
            assert_never(outcome)


def _after_asking(asked: PostponeAsked, rules: Rules, counters: Counters) -> Decision:
    seconds, limit = asked.seconds, rules.max_postpones
    pause = rules.postpone_delay if seconds is None else timedelta(seconds=seconds)
    if asked.stopping and not pause:
        return Postponed(pause, asked.why, counted=False)
    if asked.whole_key and counters.limit_name is not None:
        return Postponed(pause, asked.why, counted=False, whole_key=True)
    if limit is not None and counters.postpones >= limit:
        return Failed(_once_too_often(limit, asked.why))
    return Postponed(pause, asked.why)


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
    # A run that never began proves nothing against the task. It is counted only until the pause
    # has grown to its maximum, and never ends the task.
    counted = begun or seconds < LONGEST_CUT_OFF_PAUSE_SECONDS
    return Interrupted(timedelta(seconds=seconds), failure, counted)


def _after_error(failure: Failure, fit: Fit | None, rules: Rules, counters: Counters) -> Decision:
    return after_error(failure, fit, rules.errors, counters.tries, counters.trying_seconds)
