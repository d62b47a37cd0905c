"""Looks at schedules: which of them are overdue, and how long ago each succeeded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from partisan_async import store
from partisan_async.enqueue.run import fetch
from partisan_async.enqueue.scheduled import scheduled
from partisan_async.operate import to_copy
from partisan_async.operate.doctor.look import Said, well, wrong
from partisan_async.store import Punctuality
from partisan_async.text.durations import in_words
from partisan_async.text.printable import plain

NAMED = 5

LOOKED_AT = 10_000
"""Maximum number of schedules that are looked at, those that are overdue first."""


def overdue_schedules() -> Iterator[Said]:
    """Tell of schedules whose ticks nobody takes, or whose tasks do not finish."""
    rows = fetch(*store.punctuality(list(scheduled()), LOOKED_AT))
    found = [Punctuality(*row) for row in rows]
    overdue = [each for each in found if each.is_overdue]
    for each in overdue[:NAMED]:
        yield wrong(_told_late(each) if each.is_late else _told_fruitless(each))
    if (more := len(overdue) - NAMED) > 0:
        yield wrong(f"{more:,} more schedules are overdue: look into these first.")
    if not overdue:
        yield well(_told_well(found))


def _told_late(late: Punctuality) -> str:
    return (
        f"The tick of the schedule {plain(late.key)} has been due for"
        f" {_since(late.late_seconds)}, and no supervisor of queue {late.queue_name!r} takes it:"
        f" start one whose code has {plain(late.processor)}: {to_copy.start(late.queue_name)}"
    )


def _told_fruitless(fruitless: Punctuality) -> str:
    since = fruitless.success_seconds
    ever = "ever" if since is None else f"for {_since(since)}"
    return (
        f"The schedule {plain(fruitless.key)} ticks in queue {fruitless.queue_name!r}, and no task"
        f" of it has finished {ever}: they wait, run, or fail; look at the tasks of"
        f" {plain(fruitless.processor)}, and at their errors: manage.py partisan status"
    )


def _told_well(found: Sequence[Punctuality]) -> str:
    known = [each for each in found if _is_known(each.success_seconds)]
    known.sort(key=lambda each: each.success_seconds or 0.0, reverse=True)
    told = ", ".join(f"{plain(each.key)} {_since(each.success_seconds)}" for each in known[:NAMED])
    count = f"{len(found):,}, none overdue"
    return f"{count}; since the last success: {told}" if told else count


def _is_known(seconds: float | None) -> bool:
    return seconds is not None and math.isfinite(seconds)


def _since(seconds: float | None) -> str:
    return in_words(max(0.0, seconds)) if seconds is not None and _is_known(seconds) else "ages"
