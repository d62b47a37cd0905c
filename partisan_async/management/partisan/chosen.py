"""Says in words which tasks were chosen, for the question to confirm."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from partisan_async.management.partisan.screen import number
from partisan_async.models import Task
from partisan_async.steering.which import SINCE, Which
from partisan_async.text.printable import plain

_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))

_ADJECTIVES = {Task.STATUS_ERROR: "in error", Task.STATUS_IN_PROCESS: "in process"}


def tasks(count: int, action: str, which: Which) -> str:
    """Return a text like "5 tasks of queue 'imports' that were enqueued over 2 hours ago"."""
    named = (
        ("queue", which.queue_name),
        ("processor", which.processor),
        ("subject", which.subject),
    )
    of = [f"{what} {name!r}" for what, name in named if name is not None]
    that = []
    if which.statuses is not None:
        that.append(f"{'is' if count == 1 else 'are'} {statuses(which.statuses)}")
    if which.older_than is not None:
        enqueued = "was enqueued" if count == 1 else "were enqueued"
        did = "ended" if SINCE[action] == "finished_at" else enqueued
        that.append(f"{did} over {_exactly(which.older_than)} ago")
    parts = [(" of ", of), (" that ", that)]
    told = "".join(word + " and ".join(each) for word, each in parts if each)
    return plain(number(count) + told)


def statuses(names: Sequence[str]) -> str:
    """Return a text like "new or in process"."""
    return " or ".join(_ADJECTIVES.get(name, name) for name in dict.fromkeys(names))


def _exactly(age: timedelta) -> str:
    """Return an age in the largest unit that gives a whole number."""
    seconds = int(age.total_seconds())
    whole = ((unit, length) for unit, length in _UNITS if seconds and seconds % length == 0)
    unit, length = next(whole, _UNITS[-1])
    count = seconds // length
    return f"1 {unit}" if count == 1 else f"{count:,} {unit}s"
