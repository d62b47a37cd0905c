"""Checks of the databases: which one the tasks are in, and how it is reached."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004  Django's name
from django.db import DEFAULT_DB_ALIAS, connections

from partisan_async import settings, store
from partisan_async.checks.processors import known_processors


@register("partisan_async")
def check_database(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """E002: the tasks' database is not PostgreSQL."""
    alias = store.database()
    connection = connections[alias]
    if connection.vendor != "postgresql":
        return [
            Error(
                f"Tasks are stored in database {alias!r}, which is {connection.vendor}, not"
                " PostgreSQL.",
                hint=(
                    "Set its ENGINE to django.db.backends.postgresql, or route partisan_async to a"
                    " PostgreSQL database with a database router."
                ),
                id="partisan_async.E002",
            )
        ]
    return []


@register("partisan_async")
def check_pooler(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """W010: the database seems to be behind a transaction pooler, and there is no way around it."""
    alias = store.database()
    pooled = connections[alias].settings_dict.get("DISABLE_SERVER_SIDE_CURSORS")
    names = settings.configured_queues()
    if not pooled or list(settings.problems()):
        return []
    blocked = [name for name in names if settings.queue_settings(name).LISTEN_DSN is None]
    if not blocked:
        return []
    return [
        Warning(
            f"Database {alias!r} has DISABLE_SERVER_SIDE_CURSORS, as behind a transaction pooler:"
            f" NOTIFY does not get through one, so that queues are polled: {', '.join(blocked)}.",
            hint="Set LISTEN_DSN to the way around it, such as 'host=db.internal port=5432'.",
            id="partisan_async.W010",
        )
    ]


@register("partisan_async")
def check_own_database(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """W015: the tasks are in another database than the default one."""
    alias = store.database()
    if alias == DEFAULT_DB_ALIAS:
        return []
    return [
        Warning(
            f"Tasks are stored in database {alias!r}, so that delay() is not in the transactions of"
            f" {DEFAULT_DB_ALIAS!r}: a task may run before what it is about is committed, or though"
            " that was rolled back; where the process ends between the two, it is not enqueued.",
            hint="Route partisan_async to the database that the tasks are about; or enqueue by"
            " transaction.on_commit(), and silence this check.",
            id="partisan_async.W015",
        )
    ]


@register("partisan_async")
def check_pools(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """W016: async tasks of a queue may want more connections than a pool of Django's has."""
    queues = {
        each.QUEUE_NAME
        for each in known_processors()
        if inspect.iscoroutinefunction(each.run) and isinstance(each.QUEUE_NAME, str)
    }
    if list(settings.problems()):
        return []
    return [
        Warning(
            f"Database {alias!r} has a pool of {most}, and in queue {name!r} up to {wanted} async"
            " tasks run in each worker: those that find no connection wait for one, and fail.",
            hint=f'Set OPTIONS["pool"]["max_size"] to {wanted + 1} or more, or ASYNC_CONCURRENCY to'
            f" {most} or less; and have tasks `await self.release_connections()` before they wait.",
            id="partisan_async.W016",
        )
        for alias in connections
        if (most := _pool_size(connections.settings[alias])) is not None
        for name in sorted(queues)
        if (wanted := settings.queue_settings(name).ASYNC_CONCURRENCY) > most
    ]


def _pool_size(database: Mapping[str, Any]) -> int | None:
    """Return how many connections a database's pool may open; ``None``: it has none, or no end."""
    pool = database.get("OPTIONS", {}).get("pool")
    if not pool:
        return None
    pool = pool if isinstance(pool, Mapping) else {}
    size = pool.get("max_size") or pool.get("min_size", 4)  # as psycopg_pool has it
    return size if isinstance(size, int) else None
