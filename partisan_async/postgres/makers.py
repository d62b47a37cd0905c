"""Tells whether a session of PostgreSQL is set up by Django alone, and so can be made as new.

Whatever else sets up new sessions, such as a receiver that sets a time-out, expects a new
connection: a handler that it adds for each would be there once for each run.
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast
from weakref import ReferenceType

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql.base import DatabaseWrapper
from django.db.backends.signals import connection_created

_MAKERS = (
    "connect",
    "get_new_connection",
    "init_connection_state",
    "ensure_timezone",
    "_configure_connection",
    "_configure_timezone",
    "_configure_role",
)
"""Methods of Django's in which a session is made, and set up."""

_SET_NOTHING = (
    "django.contrib.postgres.signals",  # it registers types with the client's side
    "partisan_async.worker.async_queries",
    "partisan_async.postgres.renewal",
)
"""Modules whose receivers of new connections leave nothing that a renewal would undo."""


def is_djangos_own(wrapper: BaseDatabaseWrapper) -> bool:
    """Tell whether nobody but Django sets up the sessions of this connection."""
    return _is_made_by_django(cast("Any", type(wrapper))) and all(map(_sets_nothing, _receivers()))


@cache
def _is_made_by_django(kind: Any) -> bool:
    return all(getattr(kind, n, None) is getattr(DatabaseWrapper, n, None) for n in _MAKERS)


def _receivers() -> list[Any]:
    return [receiver for _, receiver, *_ in connection_created.receivers]


def _sets_nothing(receiver: Any) -> bool:
    function = receiver() if isinstance(receiver, ReferenceType) else receiver
    return function is None or getattr(function, "__module__", None) in _SET_NOTHING
