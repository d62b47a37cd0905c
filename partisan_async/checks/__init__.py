"""System checks: what can be seen to be wrong before anything runs."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from django.apps import AppConfig
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004  Django's name
from django.db import DEFAULT_DB_ALIAS, connections

from partisan_async import registry, schedule, settings, store
from partisan_async.checks.misnamed import misnamed
from partisan_async.config.processor_configs import ErrorsHandleConfig, PostponeConfig
from partisan_async.exceptions import ProcessorClassAlreadyRegistered
from partisan_async.processor import BaseTaskProcessor

BACKEND = "partisan_async.tasks_backend.PartisanBackend"

ATTRIBUTES = {
    "PRIORITY": settings.priority,
    "QUEUE_NAME": settings.queue_name,
    "UNIQUE_FOR_PARAMS": settings.flag,
    "TIMEOUT_SECONDS": settings.time_limit,
    "RETRY_ON_ERROR_CONFIG": settings.instance_or_none(ErrorsHandleConfig),
    "POSTPONE_CONFIG": settings.instance_or_none(PostponeConfig),
    "STORE_RESULT": settings.flag,
    "ATOMIC": settings.flag,
    "SCHEDULE": schedule.wrong,
}


@register("partisan_async")
def check_settings(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """E001: a queue's settings cannot be."""
    return [
        Error(
            wrong,
            hint="Correct it in the Django settings.",
            id="partisan_async.E001",
        )
        for wrong in settings.problems()
    ]


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
def check_processors(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """E003: a processor names its queue in the ancestor's way. E004: an attribute cannot be.
    E005: ``run()`` is missing, or cannot be as it is. E006: two processors have one name.
    E007: a ``partisan_tasks.py``, or a ``tasks.py`` for Django's own, cannot be imported.
    """
    errors: list[CheckMessage] = []
    try:
        registry.autodiscover()
    except ProcessorClassAlreadyRegistered as error:
        errors.append(
            Error(
                str(error),
                hint="Rename one of the two classes.",
                id="partisan_async.E006",
            )
        )
    except Exception as error:  # noqa: BLE001  a module may raise anything when it is imported
        errors.append(
            Error(
                f"A module of tasks cannot be imported: {type(error).__name__}: {error}",
                hint=f"{_place(error)} No task can run until that is mended.",
                id="partisan_async.E007",
            )
        )
    for processor in registry.processors():
        if hasattr(processor, "QUEUE"):
            errors.append(
                Error(
                    f"{processor.__name__} sets QUEUE, which has no effect.",
                    hint=f"Rename it: QUEUE_NAME = {processor.QUEUE!r}.",
                    obj=processor,
                    id="partisan_async.E003",
                )
            )
        errors += [
            Error(
                f"{processor.__name__}.{name} is {getattr(processor, name)!r}.",
                hint=f"It {wrong}.",
                obj=processor,
                id="partisan_async.E004",
            )
            for name, check in ATTRIBUTES.items()
            if (wrong := check(getattr(processor, name)))
        ]
        errors += _wrong_runs(processor)
    return errors


@register("partisan_async")
def check_names(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """W014: an attribute of a processor is almost one of ours, or another runner's word for it."""
    found = {
        (owner, name): ours
        for processor in _processors()
        for owner, name, ours in misnamed(processor, ATTRIBUTES)
    }
    return [
        Warning(
            f"{owner.__name__} sets {name}, which partisan_async does not read.",
            hint=f"Did you mean {ours}? If {name} is your own, rename it, or add"
            " 'partisan_async.W014' to SILENCED_SYSTEM_CHECKS.",
            obj=owner,
            id="partisan_async.W014",
        )
        for (owner, name), ours in found.items()
    ]


@register("partisan_async")
def check_django_tasks(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """E009: TASKS names our backend, and nothing reads that setting."""
    configured = getattr(django_settings, "TASKS", None)
    named = configured.values() if isinstance(configured, Mapping) else ()
    backends = [each.get("BACKEND") for each in named if isinstance(each, Mapping)]
    if BACKEND not in backends or any(find_spec(name) for name in ("django.tasks", "django_tasks")):
        return []
    return [
        Error(
            f"TASKS names {BACKEND}, and this Django has no tasks of its own.",
            hint="Upgrade to Django 6.0, or install the backport: pip install django-tasks.",
            id="partisan_async.E009",
        )
    ]


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
        for each in _processors()
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


def _processors() -> list[type[BaseTaskProcessor]]:
    """Return those there are: the checks of a tag run in no order. E006 and E007 tell of errors."""
    with suppress(Exception):
        registry.autodiscover()
    return registry.processors()


def _pool_size(database: Mapping[str, Any]) -> int | None:
    """Return how many connections a database's pool may open; ``None``: it has none, or no end."""
    pool = database.get("OPTIONS", {}).get("pool")
    if not pool:
        return None
    pool = pool if isinstance(pool, Mapping) else {}
    size = pool.get("max_size") or pool.get("min_size", 4)  # as psycopg_pool has it
    return size if isinstance(size, int) else None


def _wrong_runs(processor: type[BaseTaskProcessor]) -> list[CheckMessage]:
    name = processor.__name__
    if inspect.isabstract(processor):
        missing = ", ".join(f"{each}()" for each in sorted(processor.__abstractmethods__))
        wrong, hint = f"{name} has no {missing}.", "Write it: def run(self): …"
    elif processor.ATOMIC is True and inspect.iscoroutinefunction(processor.run):
        wrong = f"{name} is ATOMIC, and its run() is async: Django has no async transactions."
        hint = "Write it as def run(self), or leave ATOMIC out."
    else:
        return []
    return [Error(wrong, hint=hint, obj=processor, id="partisan_async.E005")]


def _place(error: Exception) -> str:
    """Say where an error came from, if that is in the user's code."""
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    return f"It was raised in {last.filename}, line {last.lineno}." if last else ""
