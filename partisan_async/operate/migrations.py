"""Whether the package's migrations are applied to a database, and the command that does it."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from django.db import connections
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder


def unapplied(alias: str) -> list[str]:
    """Return the names of the package's migrations that are not applied to a database."""
    # By their files' names. Django's executor imports the migrations of all apps, and a supervisor
    # would keep them in memory for as long as it runs.
    place, _ = MigrationLoader.migrations_module("partisan_async")
    if place is None:  # MIGRATION_MODULES says that there are none
        return []
    names = sorted(each.name for each in iter_modules(import_module(place).__path__))
    applied = MigrationRecorder(connections[alias]).applied_migrations()
    return [name for name in names if ("partisan_async", name) not in applied]


def command(alias: str) -> str:
    """Return the command that applies them."""
    return "manage.py migrate" + ("" if alias == "default" else f" --database {alias}")
