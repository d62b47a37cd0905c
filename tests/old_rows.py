"""Rows from before the constraints on a task's state, which the table refuses to be written now."""

from contextlib import contextmanager

from django.db import connection, transaction
from django.db.models import CheckConstraint

from partisan_async.models import Task

NAMES = ("partisan_async_status", "partisan_async_finished_at")


@contextmanager
def before_the_constraints():
    """Write rows as a release before them would have; afterwards they are there, as migrated."""
    checks = [each for each in Task._meta.constraints if each.name in NAMES]
    assert len(checks) == 2
    assert all(isinstance(each, CheckConstraint) for each in checks)
    with transaction.atomic(), connection.schema_editor() as editor, connection.cursor() as cursor:
        for each in checks:
            cursor.execute(f"ALTER TABLE partisan_async_task DROP CONSTRAINT {each.name}")
        yield
        for each in checks:
            cursor.execute(f"{each.create_sql(Task, editor)} NOT VALID")
