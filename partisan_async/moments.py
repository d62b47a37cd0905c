"""Moments that are stored as text, as Django would read them from a column."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import connections
from django.utils import timezone


def read(text: str, alias: str) -> datetime:
    """Return the moment of a text in ISO 8601: aware with ``USE_TZ``, else naive and local.

    :param alias: the database that the text comes from; its settings may name a time zone.
    """
    moment = datetime.fromisoformat(text)
    if settings.USE_TZ:
        return moment.astimezone(connections[alias].timezone)
    if timezone.is_naive(moment):
        return moment
    return timezone.make_naive(moment, timezone.get_default_timezone())
