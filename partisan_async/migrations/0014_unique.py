from django.db import models

from partisan_async.postgres.migration import (
    AddColumn,
    AddIndexConcurrently,
    AddUniqueConcurrently,
    CreateTable,
    PostgresMigration,
)


class Migration(PostgresMigration):
    """Adds what is NULL in old rows, a small table, and indexes that are empty at first.

    The tasks have to be read for an index, and may be many: so it is built while others write, and
    that cannot be done in a transaction. The small table's is built so, too, since one that Django
    makes with its table is made later, and never by a second attempt.
    """

    dependencies = [
        ("partisan_async", "0013_retries"),
    ]

    atomic = False

    operations = [
        AddColumn(
            model_name="task",
            name="unique_key",
            field=models.BinaryField(
                blank=True, help_text="in place of the digest, while it runs, too", null=True
            ),
        ),
        AddUniqueConcurrently(
            model_name="task",
            constraint=models.UniqueConstraint(
                condition=models.Q(("finished_at__isnull", True), ("unique_key__isnull", False)),
                fields=("unique_key",),
                name="partisan_async_one_unended",
            ),
        ),
        CreateTable(
            name="UniqueWindow",
            fields=[
                ("key", models.BinaryField(primary_key=True, serialize=False)),
                ("until", models.DateTimeField()),
                (
                    "task_id",
                    models.BigIntegerField(help_text="the task that was enqueued when it began"),
                ),
            ],
        ),
        AddIndexConcurrently(
            model_name="uniquewindow",
            index=models.Index(fields=["until"], name="partisan_async_window_until"),
        ),
    ]
