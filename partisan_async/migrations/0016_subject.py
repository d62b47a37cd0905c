from django.db import models

from partisan_async.postgres.migration import (
    AddColumn,
    AddIndexConcurrently,
    PostgresMigration,
)


class Migration(PostgresMigration):
    """Adds what is NULL in old rows, and indexes that are empty at first.

    The tables have to be read for the indexes, and one may be large: so they are built while others
    write, and that cannot be done in a transaction.
    """

    dependencies = [
        ("partisan_async", "0015_schedules"),
    ]

    atomic = False

    operations = [
        AddColumn(
            model_name="task",
            name="subject",
            field=models.CharField(
                blank=True,
                db_collation="C",
                help_text="whose task it is",
                max_length=255,
                null=True,
            ),
        ),
        AddColumn(
            model_name="schedule",
            name="subject",
            field=models.CharField(
                blank=True,
                db_collation="C",
                help_text="whose tasks it has",
                max_length=255,
                null=True,
            ),
        ),
        AddColumn(
            model_name="uniquewindow",
            name="subject",
            field=models.CharField(
                blank=True,
                db_collation="C",
                help_text="whose task that is",
                max_length=255,
                null=True,
            ),
        ),
        AddIndexConcurrently(
            model_name="task",
            index=models.Index(
                condition=models.Q(("subject__isnull", False)),
                fields=["subject", "id"],
                name="partisan_async_subject",
            ),
        ),
        AddIndexConcurrently(
            model_name="uniquewindow",
            index=models.Index(
                condition=models.Q(("subject__isnull", False)),
                fields=["subject"],
                name="partisan_async_window_subject",
            ),
        ),
    ]
