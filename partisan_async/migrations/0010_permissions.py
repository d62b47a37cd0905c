from django.db import migrations

from partisan_async.postgres.migration import PostgresMigration


class Migration(PostgresMigration):
    dependencies = [
        ("partisan_async", "0009_places_and_pauses"),
    ]

    # Changes nothing itself: Django creates the permissions' rows at the end of `migrate`.
    operations = [
        migrations.AlterModelOptions(
            name="task",
            options={
                "permissions": [
                    ("retry_task", "Can run tasks again, or now"),
                    ("cancel_task", "Can cancel tasks"),
                    ("view_arguments", "Can view arguments, errors' texts and results of tasks"),
                ]
            },
        ),
    ]
