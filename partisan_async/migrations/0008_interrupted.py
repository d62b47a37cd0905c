from django.db import migrations, models

from partisan_async.postgres.migration import PostgresMigration


class Migration(PostgresMigration):
    dependencies = [
        ("partisan_async", "0007_dashboard"),
    ]

    locked = ("partisan_async_task",)

    # PostgreSQL keeps a constant default in the catalog, so that no row is rewritten. Rows that an
    # older release inserts get that default.
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
