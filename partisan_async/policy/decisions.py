"""Decisions: what is written on the row after a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from partisan_async.policy.failure import Failure


@dataclass(frozen=True, slots=True)
class Finished:
    """The task is done; the parameters are those of ``Returned``."""

    result: str | None = None
    settled: bool = False


@dataclass(frozen=True, slots=True)
class Retried:
    """The task failed, and runs again after the pause.

    :param rule: which declaration says so, for people.
    :param timed: the row keeps when its first try began: by that it will be given up.
    """

    pause: timedelta
    failure: Failure
    rule: str = field(default="", compare=False)
    timed: bool = False


@dataclass(frozen=True, slots=True)
class Postponed:
    """The task asked to run again after the pause; ``failure`` tells why, if it gave a reason.

    :param counted: whether the row counts this postpone; not if it made way for a stop, or if it
        asked for all tasks of its key.
    :param whole_key: whether no task of its key starts in that time.
    """

    pause: timedelta
    failure: Failure | None = None
    counted: bool = True
    whole_key: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """The task ends in ``error``; ``lost``: it took its worker down once more.

    :param rule: which declaration gives it up, for people; empty: nothing would try it again.
    """

    failure: Failure
    lost: bool = False
    rule: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The task asked to end: in ``error``, and yet it has not failed."""

    failure: Failure
    reason: str


@dataclass(frozen=True, slots=True)
class Suspected:
    """The worker died, and the task runs again alone; with a failure if it is proven to blame."""

    failure: Failure | None


@dataclass(frozen=True, slots=True)
class Deferred:
    """The task waits for a supervisor that knows its processor and its arguments."""

    pause: timedelta
    failure: Failure


@dataclass(frozen=True, slots=True)
class GivenBack:
    """The run did not end, through no fault of the task, which waits again as before.

    :param cut_off: the supervisor killed it at its own end: the row counts that.
    """

    cut_off: bool = False


@dataclass(frozen=True, slots=True)
class PutUnder:
    """The task has not started, and waits for a limit; the parameters are those of ``Limited``."""

    name: str
    key: str | None
    in_order: bool


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The task runs again after the pause: its database session ended or could not be opened.

    :param counted: whether the row counts this interruption.
    """

    pause: timedelta
    failure: Failure
    counted: bool = True


Decision = (
    Finished
    | Retried
    | Postponed
    | Failed
    | Cancelled
    | Suspected
    | Deferred
    | GivenBack
    | PutUnder
    | Interrupted
)
