"""Schedules: when a processor's task is enqueued by itself, at an interval or by a cron expression.

A *tick* is a moment at which one task is due. Callers ask for one tick after the other; nothing
here reads a clock.
"""

from __future__ import annotations

import datetime
from dataclasses import KW_ONLY, dataclass
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
    :raises ValueError: a parameter is not as described here.
    """

    seconds: float
    catch_up: bool = False

    def __post_init__(self) -> None:
        number = isinstance(self.seconds, int | float) and not isinstance(self.seconds, bool)
        if not number or not SHORTEST_SECONDS <= self.seconds <= TEN_YEARS_SECONDS:
            raise ValueError(
                f"seconds={self.seconds!r} must be a number of seconds, {SHORTEST_SECONDS:g} or"
                " more, up to ten years."
            )
        _require_flag(self.catch_up)

    def following(self, tick: datetime.datetime, moment: datetime.datetime) -> datetime.datetime:
        """Return the first tick after a moment; both are aware.

        :param tick: any tick, or the moment from which ticks are counted.
        """
        step = datetime.timedelta(seconds=self.seconds)
        return tick + ((moment - tick) // step + 1) * step

    def __str__(self) -> str:
        return f"every {self.seconds:g} s"

    @property
    def words(self) -> str:
        """The schedule in words, for people."""
        return gettext("Every %(seconds)s seconds") % {"seconds": f"{self.seconds:g}"}


@dataclass(frozen=True, slots=True)
class Cron:
    """A tick whenever the clock of a time zone matches a cron expression.

    When the clock is changed, it does as Debian's cron: if minute and hour are numbers, a tick in
    the hour that is skipped comes right after the gap, and one in the hour that comes twice comes
    only the first time. If either begins with ``*``, ticks keep their intervals.

    :param expression: minute, hour, day of month, month, day of week.
    :param time_zone: a name such as ``"Europe/Berlin"``; ``None`` is Django's ``TIME_ZONE``.
    :param catch_up: as for ``Every``.
    :raises ValueError: a parameter is not as described here, or no moment ever matches.
    """

    expression: str
    _: KW_ONLY
    time_zone: str | None = None
    catch_up: bool = False

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
        _require_flag(self.catch_up)

    def following(self, tick: datetime.datetime, moment: datetime.datetime) -> datetime.datetime:
        """Return the first tick after a moment; both are aware. The last tick does not matter."""
        # Within an hour that comes twice, cron's arithmetic may lead back to its first pass.
        for found in CronSim(self.expression, moment.astimezone(self._zone)):
            if (following := found.astimezone(datetime.UTC)) > moment:
                return following
        raise AssertionError(f"{self} comes once in 50 years at least")

    def __str__(self) -> str:
        return f"{self.expression} {self._zone}"

    @property
    def words(self) -> str:
        """The schedule in words, for people. In English: ``cronsim`` has no other language."""
        return f"{CronSim(self.expression, _SOME_DAY).explain()} ({self._zone})"

    @property
    def _zone(self) -> datetime.tzinfo:
        return ZoneInfo(self.time_zone) if self.time_zone else timezone.get_default_timezone()


def of(value: str | Cron | Every) -> Cron | Every:
    """Return the schedule that a processor's ``SCHEDULE`` means; a string is a cron expression."""
    return Cron(value) if isinstance(value, str) else value


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


def _require_flag(catch_up: object) -> None:
    if not isinstance(catch_up, bool):
        raise ValueError(f"catch_up={catch_up!r} must be True or False.")
