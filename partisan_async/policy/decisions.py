"""Decisions: what is written on the row after a run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from partisan_async.policy.failure import Failure


@dataclass(frozen=True, slots=True)
class Finished:
    """It is done; the parameters are those of ``Returned``."""

    result: str | None = None
    settled: bool = False


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
    """It waits for a supervisor whose code knows its processor, and such a call of it."""

    pause: timedelta
    failure: Failure


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
