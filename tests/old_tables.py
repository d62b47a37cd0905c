"""Tables as an older migration has them, for code that reads columns which later ones add."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.apps import apps
from django.core.management import call_command
from django.db import connection


@contextmanager
def migrated_back(target: str) -> Iterator[None]:
    """Migrate back, and forth in the end; in between the columns that the models have are there."""
    call_command("migrate", "partisan_async", target, verbosity=0)
    added = list(_add_columns())
    try:
        yield
    finally:
        with connection.cursor() as cursor:
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
