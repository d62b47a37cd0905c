from typing import Any

import django.db.models.functions.datetime
from django.db import migrations, models

from partisan_async.postgres.migration import (
    AddColumn,
    AddIndexConcurrently,
    AddUniqueConcurrently,
    CreateTable,
    PostgresMigration,
    RemoveUniqueConcurrently,
)

AT_ONCE = 1000


def dissolve(apps: Any, schema_editor: Any, more: str = "") -> None:
    """Make what waits for a limit ready, or scheduled: the release before knows no limits."""
    sql = f"""
    UPDATE partisan_async_task
    SET status = CASE WHEN execute_after <= now() THEN 'new' ELSE 'scheduled' END{more}
    WHERE id = ANY (ARRAY(
        SELECT id FROM partisan_async_task WHERE status = 'limited' LIMIT {AT_ONCE} FOR UPDATE))
    """  # noqa: S608
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(sql)
        while cursor.rowcount:
            cursor.execute(sql)


def dissolve_late_ones(apps: Any, schema_editor: Any) -> None:
    """Do so with what came meanwhile, to which the release before may have enqueued twins."""
    dissolve(apps, schema_editor, ", digest = NULL")


class Migration(PostgresMigration):
    """Adds what is NULL in old rows, small tables, and indexes that are empty at first.

    In place of the index of twins comes one that has the tasks that wait for limits, too. It serves
    the release before as the other did: its condition follows from what that release asks for.

    The tasks have to be read for an index, and may be many: so each is built while others write,
    and that cannot be done in a transaction. On the way back, what waits for a limit is made ready.
    """

    dependencies = [
        ("partisan_async", "0018_permission_label"),
    ]

    atomic = False

    operations = [
        migrations.RunPython(migrations.RunPython.noop, dissolve_late_ones, atomic=False),
        AddColumn(
            model_name="task",
            name="limit_name",
            field=models.CharField(
                blank=True, help_text="the limit that it starts under", max_length=255, null=True
            ),
        ),
        AddColumn(
            model_name="task",
            name="limit_key",
            field=models.CharField(
                blank=True,
                db_collation="C",
                help_text="its key under that limit",
                max_length=255,
                null=True,
            ),
        ),
        AddColumn(
            model_name="task",
            name="limit_rank",
            field=models.IntegerField(
                blank=True,
                help_text="its turn among those of its key: lower number first",
                null=True,
            ),
        ),
        AddColumn(
            model_name="schedule",
            name="limit_key",
            field=models.CharField(
                blank=True,
                db_collation="C",
                help_text="of one made at run time: its tasks' key under their limit",
                max_length=255,
                null=True,
            ),
        ),
        AddColumn(
            model_name="schedule",
            name="keyed_as",
            field=models.UUIDField(
                blank=True,
                help_text="what set_by was when that key was asked for; another one: it is not"
                " known",
                null=True,
            ),
        ),
        CreateTable(
            name="Limit",
            fields=[
                ("name", models.CharField(max_length=255, primary_key=True, serialize=False)),
                (
                    "running",
                    models.IntegerField(blank=True, help_text="at once, of all keys", null=True),
                ),
                (
                    "running_per_key",
                    models.IntegerField(blank=True, help_text="at once, of a key", null=True),
                ),
                (
                    "rates",
                    models.JSONField(
                        db_default=models.Value([], models.JSONField()),
                        default=list,
                        help_text="pairs: so many starts within so many seconds, of all keys",
                    ),
                ),
                (
                    "rates_per_key",
                    models.JSONField(
                        db_default=models.Value([], models.JSONField()),
                        default=list,
                        help_text="pairs: so many starts within so many seconds, of a key",
                    ),
                ),
                (
                    "in_order",
                    models.BooleanField(
                        db_default=False,
                        help_text="of each key one at a time, in the order of their ids",
                    ),
                ),
                (
                    "ranked",
                    models.BooleanField(
                        db_default=True,
                        help_text="whether its waiting tasks have the turns that this asks for",
                    ),
                ),
                ("set_by", models.UUIDField(help_text="the supervisor whose code says it")),
            ],
        ),
        CreateTable(
            name="LimitOverride",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=255)),
                (
                    "key",
                    models.CharField(
                        blank=True,
                        db_collation="C",
                        help_text="the one key that it is for",
                        max_length=255,
                        null=True,
                    ),
                ),
                ("running", models.IntegerField(help_text="at once; 0: none")),
                (
                    "set_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("name", "key"),
                        nulls_distinct=False,
                        name="partisan_async_one_override",
                    )
                ]
            },
        ),
        CreateTable(
            name="LimitPause",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=255)),
                (
                    "key",
                    models.CharField(blank=True, db_collation="C", max_length=255, null=True),
                ),
                ("until", models.DateTimeField()),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("name", "key"),
                        nulls_distinct=False,
                        name="partisan_async_one_limit_pause",
                    )
                ]
            },
        ),
        CreateTable(
            name="LimitStart",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=255)),
                (
                    "of_key",
                    models.BooleanField(help_text="whether it counts one key, or all"),
                ),
                (
                    "key",
                    models.CharField(blank=True, db_collation="C", max_length=255, null=True),
                ),
                ("per_seconds", models.FloatField(help_text="the window of the rate")),
                (
                    "granule",
                    models.BigIntegerField(help_text="hundredths of the window, since 1970"),
                ),
                ("count", models.IntegerField()),
                (
                    "until",
                    models.DateTimeField(help_text="when no window holds it any more"),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("name", "of_key", "key", "per_seconds", "granule"),
                        nulls_distinct=False,
                        name="partisan_async_one_granule",
                    )
                ]
            },
        ),
        AddIndexConcurrently(
            model_name="limitpause",
            index=models.Index(fields=["until"], name="partisan_async_limit_pause"),
        ),
        AddIndexConcurrently(
            model_name="limitstart",
            index=models.Index(fields=["until"], name="partisan_async_start_until"),
        ),
        AddIndexConcurrently(
            model_name="task",
            index=models.Index(
                condition=models.Q(("status", "limited")),
                fields=["queue_name", "limit_name", "limit_key", "limit_rank", "id"],
                name="partisan_async_limited",
            ),
        ),
        AddIndexConcurrently(
            model_name="task",
            index=models.Index(
                condition=models.Q(("limit_name__isnull", False), ("status", "in_process")),
                fields=["limit_name", "limit_key"],
                name="partisan_async_occupied",
            ),
        ),
        AddUniqueConcurrently(
            model_name="task",
            constraint=models.UniqueConstraint(
                condition=models.Q(("status__in", ("new", "scheduled", "limited"))),
                fields=("digest",),
                name="partisan_async_one_unclaimed",
            ),
        ),
        RemoveUniqueConcurrently(model_name="task", name="partisan_async_one_waiting"),
        migrations.AlterField(
            model_name="task",
            name="status",
            field=models.CharField(
                choices=[
                    ("new", "New"),
                    ("scheduled", "Scheduled"),
                    ("limited", "Limited"),
                    ("in_process", "In process"),
                    ("finished", "Finished"),
                    ("error", "Error"),
                ],
                db_default="new",
                max_length=16,
            ),
        ),
        migrations.RunPython(migrations.RunPython.noop, dissolve, atomic=False),
    ]
