from django.db import migrations, models

from partisan_async.postgres.migration import PostgresMigration


class Migration(PostgresMigration):
    """Lets the pruner find one queue's old rows by the index: other queues may keep theirs."""

    dependencies = [("partisan_async", "0005_trace")]

    operations = [
        migrations.RemoveIndex(model_name="task", name="partisan_async_ended"),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                condition=models.Q(("status__in", ("finished", "error"))),
                fields=["queue_name", "status", "finished_at"],
                name="partisan_async_ended",
            ),
        ),
    ]
