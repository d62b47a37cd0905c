"""Reads moments that are stored as text, as Django would, and words moments for people."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import connections
from django.utils import timezone
from django.utils.translation import gettext

from partisan_async.text.durations import in_words


def read(text: str, alias: str) -> datetime:
    """Return the moment that an ISO 8601 text names: aware with ``USE_TZ``, else naive and local.

    :param alias: the database that the text comes from; its settings may name a time zone.
    """
    moment = datetime.fromisoformat(text)
    if settings.USE_TZ:
        return moment.astimezone(connections[alias].timezone)
    if timezone.is_naive(moment):
        return moment
    return timezone.make_naive(moment, timezone.get_default_timezone())


def told(moment: datetime, now: datetime) -> str:
    """Return a moment in words: the local time, and how far it is from now.

    Such as "2026-11-27 22:31:07 (in 3 hours)".
    """
    seconds = (moment - now).total_seconds()
    far = gettext("in %(time)s") if seconds > 0 else gettext("%(time)s ago")
    local = moment if timezone.is_naive(moment) else timezone.localtime(moment)
    return f"{local:%Y-%m-%d %H:%M:%S} ({far % {'time': in_words(abs(seconds))}})"
