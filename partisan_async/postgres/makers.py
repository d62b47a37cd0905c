"""Tells whether only Django sets up a PostgreSQL session, so that it can be renewed.

Other code that sets up sessions, such as a receiver that sets a time-out, expects a new connection
each time: if it adds a handler to the connection, renewals would add that once for each run.
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
"""Django's methods that open a session and set it up."""

_SET_NOTHING = (
    "django.contrib.postgres.signals",  # it registers types on the client's side
    "partisan_async.worker.async_queries",
    "partisan_async.postgres.renewal",
)
"""Modules whose receivers of new connections leave nothing that a renewal would undo."""


def is_djangos_own(wrapper: BaseDatabaseWrapper) -> bool:
    """Tell whether only Django sets up the sessions of this connection."""
    return _is_made_by_django(cast("Any", type(wrapper))) and all(map(_sets_nothing, _receivers()))


@cache
def _is_made_by_django(kind: Any) -> bool:
    return all(getattr(kind, n, None) is getattr(DatabaseWrapper, n, None) for n in _MAKERS)


def _receivers() -> list[Any]:
    return [receiver for _, receiver, *_ in connection_created.receivers]


def _sets_nothing(receiver: Any) -> bool:
    function = receiver() if isinstance(receiver, ReferenceType) else receiver
    return function is None or getattr(function, "__module__", None) in _SET_NOTHING
