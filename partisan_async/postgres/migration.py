"""Migrations of tables in use: they wait for their locks without blocking others."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from django.apps import apps
from django.db import OperationalError, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import (
    AddConstraint,
    AddField,
    AddIndex,
    CreateModel,
    Migration,
    RemoveConstraint,
)
from django.db.migrations.state import ProjectState

from partisan_async import logs

LOCK_PATIENCE = "500ms"
"""Time that each attempt waits for its locks; less than PostgreSQL's default deadlock_timeout."""

LOCK_AGAIN_SECONDS = 1.0

_LOCK_NOT_AVAILABLE = "55P03"


class PostgresMigration(Migration):
    """A migration that changes nothing in a database that is not for these tables.

    Without a router ``migrate`` migrates every app in every database, also in a site's SQLite. A
    router refuses models, not the locks that are taken here.
    """

    locked: ClassVar[tuple[str, ...]] = ()
    """The tables in use that it alters: each attempt locks all of them, or none."""

    def apply(
        self,
        project_state: ProjectState,
        schema_editor: BaseDatabaseSchemaEditor,
        collect_sql: bool = False,
    ) -> ProjectState:
        connection = schema_editor.connection
        if _is_for_tables(connection):
            if not collect_sql:
                _lock(connection, self.locked)
            return super().apply(project_state, schema_editor, collect_sql)
        if self.initial and connection.vendor != "postgresql":
            logs.database.no_tables_made(connection.alias, connection.vendor)
        return self.mutate_state(project_state, preserve=False)

    def unapply(
        self,
        project_state: ProjectState,
        schema_editor: BaseDatabaseSchemaEditor,
        collect_sql: bool = False,
    ) -> ProjectState:
        if _is_for_tables(schema_editor.connection):
            if not collect_sql:
                _lock(schema_editor.connection, self.locked)
            return super().unapply(project_state, schema_editor, collect_sql)
        return project_state


class _Once:
    """An operation in a transaction of its own, of a migration that is in none.

    Such a migration may end in the middle, and begins anew then: what is there is left as it is.
    """

    atomic = True

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        if schema_editor.collect_sql or not self._is_there(app_label, schema_editor, to_state):
            super().database_forwards(app_label, schema_editor, from_state, to_state)  # type: ignore[misc]

    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        if schema_editor.collect_sql or self._is_there(app_label, schema_editor, from_state):
            super().database_backwards(app_label, schema_editor, from_state, to_state)  # type: ignore[misc]

    def _is_there(self, app_label: str, schema_editor: Any, state: Any) -> bool:
        raise NotImplementedError


class AddColumn(_Once, AddField):
    """Adds a column to a table in use."""

    def _is_there(self, app_label: str, schema_editor: Any, state: Any) -> bool:
        connection = schema_editor.connection
        table = state.apps.get_model(app_label, self.model_name)._meta.db_table  # noqa: SLF001
        _lock(connection, (table,))
        with connection.cursor() as cursor:
            columns = connection.introspection.get_table_description(cursor, table)
        return any(column.name == self.name for column in columns)


class CreateTable(_Once, CreateModel):
    """Creates a table; its indexes are operations of their own."""

    def _is_there(self, app_label: str, schema_editor: Any, state: Any) -> bool:
        table = state.apps.get_model(app_label, self.name)._meta.db_table  # noqa: SLF001
        return table in schema_editor.connection.introspection.table_names()


class _Concurrently:
    """Builds an index while others write to the table; it waits for their transactions."""

    atomic = False

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Build it."""
        _build(self._built, to_state.apps.get_model(app_label, self.model_name), schema_editor)  # type: ignore[attr-defined]

    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Remove it."""
        _remove(self._built, schema_editor)

    @property
    def _built(self) -> Any:
        raise NotImplementedError


class AddUniqueConcurrently(_Concurrently, AddConstraint):
    """Builds the unique index of a constraint."""

    @property
    def _built(self) -> Any:
        return self.constraint


class AddIndexConcurrently(_Concurrently, AddIndex):
    """Builds an index."""

    @property
    def _built(self) -> Any:
        return self.index


class RemoveUniqueConcurrently(RemoveConstraint):
    """Removes the unique index of a constraint; on the way back, builds it."""

    atomic = False

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Remove it."""
        _remove(self._of(from_state, app_label), schema_editor)

    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Build it."""
        model = to_state.apps.get_model(app_label, self.model_name)
        _build(self._of(to_state, app_label), model, schema_editor)

    def _of(self, state: ProjectState, app_label: str) -> Any:
        return state.models[app_label, self.model_name_lower].get_constraint_by_name(self.name)


def _build(built: Any, model: Any, schema_editor: Any) -> None:
    # In place of one that an attempt before has left unfinished.
    _remove(built, schema_editor)
    sql = str(built.create_sql(model, schema_editor))
    schema_editor.execute(sql.replace(" INDEX ", " INDEX CONCURRENTLY ", 1), params=None)


def _remove(built: Any, schema_editor: Any) -> None:
    name = schema_editor.quote_name(built.name)
    schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def _is_for_tables(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether the tables are, or are to be, in this database.

    They are in one database, so the router is asked about one of them.
    """
    if connection.vendor != "postgresql":
        return False
    # By the model itself: some routers know no other question.
    model = apps.get_model("partisan_async", "task")
    return bool(router.allow_migrate_model(connection.alias, model))


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
