from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import models

from partisan_async.postgres.migration import PostgresMigration


class Migration(PostgresMigration):
    """Refuses new rows with an unknown status, or whose ``finished_at`` does not fit the status.

    Rows that exist are not checked: ``manage.py partisan doctor --mend`` does that.
    """

    dependencies = [
        ("partisan_async", "0010_permissions"),
    ]

    locked = ("partisan_async_task",)

    operations = [
        AddConstraintNotValid(
            model_name="task",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "status__in",
                        (
                            "new",
                            "scheduled",
                            "in_process",
                            "finished",
                            "error",
                            "limited",
                            "blocked",
                        ),
                    )
                ),
                name="partisan_async_status",
            ),
        ),
        AddConstraintNotValid(
            model_name="task",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("finished_at__isnull", False), ("status__in", ("finished", "error"))),
                    models.Q(
                        models.Q(("status__in", ("finished", "error")), _negated=True),
                        ("finished_at__isnull", True),
                    ),
                    _connector="OR",
                ),
                name="partisan_async_finished_at",
            ),
        ),
    ]
