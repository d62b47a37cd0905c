"""Schedules: when a processor's task is enqueued by itself, at an interval or by a cron expression.

A *tick* is a moment at which one task is due. Callers ask for one tick after the other; nothing
here reads a clock. A *rule* is a schedule as plain data: so a row keeps one that is in no code.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from django.utils import timezone
from django.utils.translation import gettext

from partisan_async.exceptions import TEN_YEARS_SECONDS

SHORTEST_SECONDS = 0.1

_SOME_DAY = datetime.datetime(2000, 1, 1)  # noqa: DTZ001  without a zone it is quickest


@dataclass(frozen=True, slots=True, kw_only=True)
class Every:
    """A tick at a fixed interval; the first one comes an interval after the registration.

    :param seconds: the interval, from 0.1 seconds to ten years.
    :param catch_up: whether each tick that an outage made it miss gets its task; else all missed
        ticks together get one.
    :param skip_while_running: whether a tick enqueues nothing while an identical task runs.
    :param kwargs: what its tasks are called with.
    :raises ValueError: a parameter is not as described here, or a tick is to be skipped though each
        is to be caught up with.
    """

    seconds: float
    catch_up: bool = False
    skip_while_running: bool = False
    kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        number = isinstance(self.seconds, int | float) and not isinstance(self.seconds, bool)
        if not number or not SHORTEST_SECONDS <= self.seconds <= TEN_YEARS_SECONDS:
            raise ValueError(
                f"seconds={self.seconds!r} must be a number of seconds, {SHORTEST_SECONDS:g} or"
                " more, up to ten years."
            )
        _check_common(self)

    def following(self, tick: datetime.datetime, moment: datetime.datetime) -> datetime.datetime:
        """Return the first tick after a moment; both are aware.

        :param tick: any tick, or the moment from which ticks are counted.
        """
        step = datetime.timedelta(seconds=self.seconds)
        return tick + ((moment - tick) // step + 1) * step

    def __str__(self) -> str:
        return f"every {self._told} s"

    @property
    def words(self) -> str:
        """The schedule in words, for people."""
        return gettext("Every %(seconds)s seconds") % {"seconds": self._told}

    @property
    def _told(self) -> str:
        # Not ":g" alone: a million and one seconds would be a million.
        return f"{self.seconds:.15g}"

    @property
    def zone(self) -> datetime.tzinfo:
        """The zone to show its ticks in: Django's, since it has none."""
        return timezone.get_default_timezone()

    @property
    def rule(self) -> dict[str, Any]:
        """It as plain data, without its kwargs; see ``of_rule``."""
        return {"every": self.seconds, **_flags(self)}


@dataclass(frozen=True, slots=True)
class Cron:
    """A tick whenever the clock of a time zone matches a cron expression.

    When the clock is changed, it does as Debian's cron: if minute and hour are numbers, a tick in
    the hour that is skipped comes right after the gap, and one in the hour that comes twice comes
    only the first time. If either begins with ``*``, ticks keep their intervals.

    :param expression: minute, hour, day of month, month, day of week.
    :param time_zone: a name such as ``"Europe/Berlin"``; ``None`` is Django's ``TIME_ZONE``.
    :param catch_up, skip_while_running, kwargs: as for ``Every``.
    :raises ValueError: as ``Every``, or no moment ever matches.
    """

    expression: str
    _: KW_ONLY
    time_zone: str | None = None
    catch_up: bool = False
    skip_while_running: bool = False
    kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not isinstance(self.expression, str):
            raise ValueError(_wrong_expression(self.expression, "not a string"))
        try:
            next(CronSim(self.expression, _SOME_DAY))
        except CronSimError as error:
            raise ValueError(_wrong_expression(self.expression, str(error))) from None
        except StopIteration:
            raise ValueError(_wrong_expression(self.expression, "it never comes")) from None
        object.__setattr__(self, "expression", " ".join(self.expression.split()))
        if self.time_zone is not None:
            try:
                ZoneInfo(self.time_zone)
            except (KeyError, ValueError, OSError, TypeError, AttributeError):
                raise ValueError(
                    f"time_zone={self.time_zone!r} is not known here; pass a name of the IANA time"
                    " zone database, such as 'Europe/Berlin', or None for Django's TIME_ZONE. If"
                    " the name is right, the system lacks the database: pip install tzdata."
                ) from None
        _check_common(self)

    def following(self, tick: datetime.datetime, moment: datetime.datetime) -> datetime.datetime:
        """Return the first tick after a moment; both are aware. The last tick does not matter."""
        # Within an hour that comes twice, cron's arithmetic may lead back to its first pass.
        for found in CronSim(self.expression, moment.astimezone(self.zone)):
            if (following := found.astimezone(datetime.UTC)) > moment:
                return following
        raise AssertionError(f"{self} comes once in 50 years at least")

    def __str__(self) -> str:
        return f"{self.expression} {self.zone}"

    @property
    def words(self) -> str:
        """The schedule in words, for people. In English: ``cronsim`` has no other language."""
        return f"{CronSim(self.expression, _SOME_DAY).explain()} ({self.zone})"

    @property
    def zone(self) -> datetime.tzinfo:
        """The time zone that it goes by."""
        return ZoneInfo(self.time_zone) if self.time_zone else timezone.get_default_timezone()

    @property
    def rule(self) -> dict[str, Any]:
        """It as plain data, without its kwargs, and with the zone that holds now; see
        ``of_rule``."""
        return {"cron": self.expression, "time_zone": str(self.zone), **_flags(self)}


def of(value: str | Cron | Every) -> Cron | Every:
    """Return the schedule that a processor's ``SCHEDULE`` means; a string is a cron expression."""
    return Cron(value) if isinstance(value, str) else value


def of_rule(rule: object) -> Cron | Every:
    """Return the schedule that a ``rule`` is of.

    :raises ValueError: it is none, or not any more.
    """
    match rule:
        case {"every": seconds, "catch_up": catch_up, "skip_while_running": skips}:
            return Every(seconds=seconds, catch_up=catch_up, skip_while_running=skips)
        case {
            "cron": expression,
            "time_zone": time_zone,
            "catch_up": catch_up,
            "skip_while_running": skips,
        }:
            return Cron(
                expression, time_zone=time_zone, catch_up=catch_up, skip_while_running=skips
            )
    raise ValueError(f"{rule!r} is no rule of a schedule; somebody changed it by hand.")


def ticks_from(
    first: datetime.datetime, known: Cron | Every, count: int
) -> list[datetime.datetime]:
    """Return so many ticks from one on, in the schedule's zone."""
    ticks = [first]
    while len(ticks) < count:
        ticks.append(known.following(ticks[-1], ticks[-1]))
    return [tick.astimezone(known.zone) for tick in ticks]


def wrong(value: object) -> str | None:
    """Say what is wrong with a value as a ``SCHEDULE``, ``None`` if nothing."""
    if value is None or isinstance(value, Cron | Every):
        return None
    if not isinstance(value, str):
        return "must be a cron expression such as '*/5 * * * *', Every(seconds=…), Cron(…) or None"
    try:
        Cron(value)
    except ValueError as error:
        return f"cannot be: {str(error).rstrip('.')}"
    return None


def _wrong_expression(expression: object, reason: str) -> str:
    return (
        f"{expression!r} is no cron expression ({reason}); write minute, hour, day of month, month"
        " and day of week, such as '*/5 * * * *' for every five minutes."
    )


_FLAGS = ("catch_up", "skip_while_running")


def _flags(known: Cron | Every) -> dict[str, bool]:
    return {name: getattr(known, name) for name in _FLAGS}


def _check_common(known: Cron | Every) -> None:
    for name, value in _flags(known).items():
        if not isinstance(value, bool):
            raise ValueError(f"{name}={value!r} must be True or False.")
    if known.catch_up and known.skip_while_running:
        raise ValueError(
            "catch_up=True gives each tick a task, and skip_while_running=True some of them none;"
            " leave one of the two out."
        )
    kwargs = known.kwargs
    if not isinstance(kwargs, Mapping) or not all(isinstance(name, str) for name in kwargs):
        raise ValueError(
            f"kwargs={kwargs!r} must be a dict of arguments by their names, such as"
            ' {"region": "eu"}.'
        )
    object.__setattr__(known, "kwargs", dict(kwargs))  # the caller may change theirs
