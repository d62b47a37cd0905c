from django.db import migrations

from partisan_async.postgres.migration import PostgresMigration


class Migration(PostgresMigration):
    dependencies = [
        ("partisan_async", "0017_stops"),
    ]

    # Changes nothing itself: Django names a permission when it creates that, and never anew.
    operations = [
        migrations.AlterModelOptions(
            name="task",
            options={
                "permissions": [
                    ("retry_task", "Can run tasks again, or now"),
                    ("cancel_task", "Can cancel tasks"),
                    (
                        "view_arguments",
                        "Can view subjects, arguments, errors' texts and results of tasks",
                    ),
                    ("change_arguments", "Can give tasks that failed other arguments"),
                ]
            },
        ),
    ]
