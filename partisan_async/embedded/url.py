"""The Django database of a libpq URL."""

from __future__ import annotations

from typing import Any

from partisan_async import dsn


def django_database(url: str) -> dict[str, Any]:
    """The ``DATABASES`` entry for a libpq URL.

    :param url: a URL for psycopg; its parts without a key in Django go into ``OPTIONS``.
    :raises ValueError: it is not a libpq URL. The message shows no part of it.
    """
    options = dsn.parse(url)
    entry: dict[str, Any] = {"ENGINE": "django.db.backends.postgresql", "OPTIONS": options}
    for name in ("dbname", "user", "password", "host", "port"):
        if name in options:
            entry[name.removeprefix("db").upper()] = options.pop(name)
    return entry
