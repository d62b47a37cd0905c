from django.db import migrations, models

from partisan_async.postgres.migration import PostgresMigration


class Migration(PostgresMigration):
    dependencies = [
        ("partisan_async", "0016_subject"),
    ]

    locked = ("partisan_async_task",)

    # NULL in old rows, and in those that an older release inserts beside it: no row is written.
    operations = [
        migrations.AddField(
            model_name="task",
            name="stops",
            field=models.IntegerField(
                blank=True, help_text="how often in a row a stop had cut it off then", null=True
            ),
        ),
        migrations.AddField(
            model_name="task",
            name="stopped_at",
            field=models.DateTimeField(
                blank=True, help_text="when a stop of its supervisor last cut it off", null=True
            ),
        ),
    ]
