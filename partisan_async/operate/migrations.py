"""Whether the package's migrations are applied to a database, and the command that does it."""

from __future__ import annotations

from django.db import connections
from django.db.migrations.executor import MigrationExecutor


def unapplied(alias: str) -> list[str]:
    """Return the names of the package's migrations that are not applied to a database."""
    migrations = MigrationExecutor(connections[alias])
    targets = [node for node in migrations.loader.graph.leaf_nodes() if node[0] == "partisan_async"]
    return [migration.name for migration, _ in migrations.migration_plan(targets)]


def command(alias: str) -> str:
    """Return the command that applies them."""
    return "manage.py migrate" + ("" if alias == "default" else f" --database {alias}")
