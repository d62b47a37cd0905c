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
    """W010: the database seems to be behind a transaction pooler, and LISTEN_DSN is not set."""
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
            f"Database {alias!r} has DISABLE_SERVER_SIDE_CURSORS, as behind a transaction pooler."
            f" NOTIFY does not get through one, so these queues are polled: {', '.join(blocked)}.",
            hint="Set LISTEN_DSN to a way around the pooler, such as 'host=db.internal port=5432'.",
            id="partisan_async.W010",
        )
    ]


@register("partisan_async")
def check_own_database(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """W015: the tasks are stored in another database than the default one."""
    alias = store.database()
    if alias == DEFAULT_DB_ALIAS:
        return []
    return [
        Warning(
            f"Tasks are stored in database {alias!r}, so delay() is not part of the transactions of"
            f" {DEFAULT_DB_ALIAS!r}: a task may run before your data are committed, or though they"
            " were rolled back; and if the process ends between the two, the task is lost.",
            hint="Route partisan_async to the database of your data; or enqueue by"
            " transaction.on_commit(), and silence this check.",
            id="partisan_async.W015",
        )
    ]


@register("partisan_async")
def check_pools(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """W016: async tasks of a queue may need more connections than Django's pool has."""
    queues = {
        each.QUEUE_NAME
        for each in known_processors()
        if inspect.iscoroutinefunction(each.run) and isinstance(each.QUEUE_NAME, str)
    }
    if list(settings.problems()):
        return []
    return [
        Warning(
            f"Database {alias!r} has a pool of {most} connections, and in queue {name!r} up to"
            f" {wanted} async tasks run in each worker: a task that gets no connection in time"
            " fails.",
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
    """Return the maximum size of a database's pool; ``None``: it has no pool, or no maximum."""
    pool = database.get("OPTIONS", {}).get("pool")
    if not pool:
        return None
    pool = pool if isinstance(pool, Mapping) else {}
    size = pool.get("max_size") or pool.get("min_size", 4)  # as psycopg_pool has it
    return size if isinstance(size, int) else None
