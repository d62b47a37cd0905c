from django.db import migrations, models

from partisan_async.postgres.migration import PostgresMigration


class Migration(PostgresMigration):
    dependencies = [
        ("partisan_async", "0012_change_arguments"),
    ]

    locked = ("partisan_async_task", "partisan_async_tally")

    # A column that may be null, and a constant default, are kept in the catalog: no row is written,
    # however many there are. What an older release inserts beside it takes these.
    operations = [
        migrations.AddField(
            model_name="task",
            name="first_tried_at",
            field=models.DateTimeField(
                blank=True,
                help_text="start of its first try, where it is given up some time after that",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="tally",
            name="cancelled",
            field=models.IntegerField(db_default=0, help_text="runs that cancelled their task"),
        ),
    ]
