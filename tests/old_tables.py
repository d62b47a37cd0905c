"""Tables as an older migration has them, for code that reads columns which later ones add."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.apps import apps
from django.core.management import call_command
from django.db import connection
from django.db.models import UniqueConstraint

from partisan_async.models import Limit, Task


@contextmanager
def migrated_back(target: str) -> Iterator[None]:
    """Migrate back, and forth in the end.

    In between the columns that the models have are there, the indexes that inserts name, and the
    table of limits, which statements on tasks read.
    """
    call_command("migrate", "partisan_async", target, verbosity=0)
    with connection.schema_editor() as editor:
        editor.create_model(Limit)
    added = list(_add_columns())
    indexes = list(_add_unique_indexes())
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE {Limit._meta.db_table}")
            for name in indexes:
                cursor.execute(f"DROP INDEX {name}")
            for table, column in added:
                cursor.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        call_command("migrate", "partisan_async", verbosity=0)


def _add_columns() -> Iterator[tuple[str, str]]:
    for model in apps.get_app_config("partisan_async").get_models():
        table = model._meta.db_table
        if not model._meta.managed or table not in connection.introspection.table_names():
            continue
        with connection.cursor() as cursor:
            there = {
                each.name for each in connection.introspection.get_table_description(cursor, table)
            }
        for field in model._meta.concrete_fields:
            if field.column not in there:
                with connection.schema_editor() as editor:
                    editor.add_field(model, field)
                yield table, field.column


def _add_unique_indexes() -> Iterator[str]:
    with connection.cursor() as cursor:
        there = connection.introspection.get_constraints(cursor, Task._meta.db_table)
    for constraint in Task._meta.constraints:
        if isinstance(constraint, UniqueConstraint) and constraint.name not in there:
            with connection.schema_editor() as editor:
                editor.add_constraint(Task, constraint)
            yield constraint.name
