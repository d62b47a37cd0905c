"""When a schedule ticks next, as the clocks of its time zone show it."""

from __future__ import annotations

import datetime

from django.utils import timezone

from partisan_async import schedule
from partisan_async.models import Schedule
from partisan_async.models.readable import aware, is_moment
from partisan_async.schedule import Cron, Every

SHOWN_TICKS = 5


def rule_of(row: Schedule) -> Cron | Every | None:
    """Return when one that was made at run time ticks; ``None``: its row was changed by hand."""
    try:
        return schedule.of_rule(row.rule)
    except ValueError:
        return None


def next_times(known: Cron | Every, next_tick: datetime.datetime | None = None) -> list[str]:
    """Return the next ticks, as the clocks of the schedule's zone show them.

    :param next_tick: the next one, if that is known; else they are counted from now.
    """
    now = aware(timezone.now())
    first = None
    if next_tick is not None and is_moment(next_tick):
        first = aware(next_tick)
    if first is None or first <= now:
        first = known.following(first or now, now)
    ticks = schedule.ticks_from(first, known, SHOWN_TICKS)
    return [f"{tick:%Y-%m-%d %H:%M:%S} {tick.tzname()} ({tick:%z})" for tick in ticks]
