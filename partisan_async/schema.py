"""The package's tables: migrations that make them, and whether a database has them."""

from __future__ import annotations

import logging

from django.db import connections
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.state import ProjectState

logger = logging.getLogger("partisan_async")


class PostgresMigration(Migration):
    """A migration that makes nothing in a database that is not PostgreSQL.

    Without a router ``migrate`` takes every app to every database, also to a site's SQLite.
    """

    def apply(
        self,
        project_state: ProjectState,
        schema_editor: BaseDatabaseSchemaEditor,
        collect_sql: bool = False,
    ) -> ProjectState:
        if schema_editor.connection.vendor == "postgresql":
            return super().apply(project_state, schema_editor, collect_sql)
        if self.initial:
            logger.warning(
                "partisan_async makes no tables in database %r: it is %s, not PostgreSQL",
                schema_editor.connection.alias,
                schema_editor.connection.vendor,
            )
        return self.mutate_state(project_state, preserve=False)

    def unapply(
        self,
        project_state: ProjectState,
        schema_editor: BaseDatabaseSchemaEditor,
        collect_sql: bool = False,
    ) -> ProjectState:
        if schema_editor.connection.vendor == "postgresql":
            return super().unapply(project_state, schema_editor, collect_sql)
        return project_state


def unapplied(alias: str) -> list[str]:
    """Return the names of the package's migrations that are not applied to a database."""
    migrations = MigrationExecutor(connections[alias])
    targets = [node for node in migrations.loader.graph.leaf_nodes() if node[0] == "partisan_async"]
    return [migration.name for migration, _ in migrations.migration_plan(targets)]


def command(alias: str) -> str:
    """Return the command that applies them."""
    return "manage.py migrate" + ("" if alias == "default" else f" --database {alias}")
