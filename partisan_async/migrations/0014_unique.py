from django.db import models

from partisan_async.postgres.migration import (
    AddColumn,
    AddUniqueConcurrently,
    CreateTable,
    PostgresMigration,
)


class Migration(PostgresMigration):
    """Adds what is NULL in old rows, a small table, and an index that is empty at first.

    The table has to be read for the index, and may be large: so it is built while others write, and
    that cannot be done in a transaction.
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
        # Last: Django makes its index when all else is done.
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
            options={
                "indexes": [
                    models.Index(fields=["until"], name="partisan_async_window_until"),
                ],
            },
        ),
    ]
