"""System checks: what can be seen to be wrong before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, register
from django.db import connections

from partisan_async import registry, settings, store

ATTRIBUTES = {
    "PRIORITY": settings.priority,
    "QUEUE_NAME": settings.queue_name,
    "UNIQUE_FOR_PARAMS": settings.flag,
    "TIMEOUT_SECONDS": settings.time_limit,
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
    """E003: a processor names its queue in the ancestor's way. E004: an attribute cannot be."""
    registry.autodiscover()
    errors: list[CheckMessage] = []
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
    return errors
