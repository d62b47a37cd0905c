"""Migrations of tables in use: they wait for their locks without blocking others."""

from __future__ import annotations

import time
from typing import ClassVar

from django.db import OperationalError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import Migration
from django.db.migrations.state import ProjectState

from partisan_async import logs

LOCK_PATIENCE = "500ms"
"""Time that each attempt waits for its locks; less than PostgreSQL's default deadlock_timeout."""

LOCK_AGAIN_SECONDS = 1.0

_LOCK_NOT_AVAILABLE = "55P03"


class PostgresMigration(Migration):
    """A migration that changes nothing in a database other than PostgreSQL.

    Without a router ``migrate`` migrates every app in every database, also in a site's SQLite.
    """

    locked: ClassVar[tuple[str, ...]] = ()
    """The tables in use that it alters: each attempt locks all of them, or none."""

    def apply(
        self,
        project_state: ProjectState,
        schema_editor: BaseDatabaseSchemaEditor,
        collect_sql: bool = False,
    ) -> ProjectState:
        if schema_editor.connection.vendor == "postgresql":
            if not collect_sql:
                _lock(schema_editor.connection, self.locked)
            return super().apply(project_state, schema_editor, collect_sql)
        if self.initial:
            logs.database.no_tables_made(
                schema_editor.connection.alias, schema_editor.connection.vendor
            )
        return self.mutate_state(project_state, preserve=False)

    def unapply(
        self,
        project_state: ProjectState,
        schema_editor: BaseDatabaseSchemaEditor,
        collect_sql: bool = False,
    ) -> ProjectState:
        if schema_editor.connection.vendor == "postgresql":
            if not collect_sql:
                _lock(schema_editor.connection, self.locked)
            return super().unapply(project_state, schema_editor, collect_sql)
        return project_state


def _lock(connection: BaseDatabaseWrapper, tables: tuple[str, ...]) -> None:
    """Lock tables exclusively, however long other transactions use them.

    All later statements on a table queue behind a waiting lock, beats among them: leases would
    expire. So wait only briefly, and try again.
    """
    told = False
    while tables and not _is_locked(connection, tables):
        if not told:
            told = True
            logs.database.migration_waits(tables)
        time.sleep(LOCK_AGAIN_SECONDS)


def _is_locked(connection: BaseDatabaseWrapper, tables: tuple[str, ...]) -> bool:
    try:
        with transaction.atomic(connection.alias), connection.cursor() as cursor:
            cursor.execute("SHOW lock_timeout")
            (before,) = cursor.fetchone()
            keep = "SELECT set_config('lock_timeout', %s, true)"
            cursor.execute(keep, [LOCK_PATIENCE])
            cursor.execute(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE")
            cursor.execute(keep, [before])
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
            raise
        return False
    return True
