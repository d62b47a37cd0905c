from django.db import migrations, models

from partisan_async.postgres.migration import PostgresMigration


class Migration(PostgresMigration):
    dependencies = [
        ("partisan_async", "0007_dashboard"),
    ]

    locked = ("partisan_async_task",)

    # A constant default is kept in the catalog: no row is written, however many there are. What an
    # older release inserts beside it takes that default.
    operations = [
        migrations.AddField(
            model_name="task",
            name="interrupted",
            field=models.IntegerField(
                db_default=0,
                help_text="claims since its last outcome that ended without one of its run's own",
            ),
        ),
    ]
