"""Checks the priority, the time and the queue that a caller gives to a call."""

from __future__ import annotations

import datetime
from typing import Any

from django.conf import settings
from django.utils import timezone

from partisan_async.validation import check_priority, check_queue_name


def checked_priority(priority: int) -> int:
    """Return the priority of a call.

    :raises ValueError: it is not a 32-bit number.
    """
    if wrong := check_priority(priority):
        raise ValueError(f"priority={priority!r} {wrong}.")
    return priority


def checked_time(name: str, moment: datetime.datetime | None) -> datetime.datetime | None:
    """Return the earliest time of a call's run, in a form that PostgreSQL accepts.

    :param name: the caller's parameter, for the message.
    :raises TypeError, ValueError: it is not a datetime, is naive though USE_TZ is on, or is out of
        range.
    """
    if moment is None:
        return None
    if not isinstance(moment, datetime.datetime):
        raise TypeError(
            f"{name}={moment!r} must be a datetime, such as timezone.now() + timedelta(minutes=5)."
        )
    if settings.USE_TZ and timezone.is_naive(moment):
        raise ValueError(
            f"{name}={moment!r} is naive, though USE_TZ is on; pass"
            " timezone.make_aware(…), or timezone.now() plus a timedelta."
        )
    if not 1 < moment.year <= 9000:
        raise ValueError(
            f"{name}={moment!r} is out of reach; pass a time in the years 2 to 9000, or None"
            " for at once."
        )
    # Python allows UTC offsets beyond 15:59, PostgreSQL does not.
    return moment if timezone.is_naive(moment) else moment.astimezone(datetime.UTC)


def checked_queue(queue_name: str | None, processor: Any) -> str:
    """Return the queue that a call goes to.

    :param queue_name: ``None``: that of its processor.
    :raises ValueError: it is no name of 1 to 255 characters that PostgreSQL can store.
    """
    chosen: str = processor.QUEUE_NAME if queue_name is None else queue_name
    if wrong := check_queue_name(chosen):
        if queue_name is None:
            raise ValueError(f"{type(processor).__name__}.QUEUE_NAME is {chosen!r}; it {wrong}.")
        raise ValueError(f"queue_name={chosen!r} {wrong}.")
    return str.__str__(chosen)  # of an enum, its value: the channel of a NOTIFY has it, too
