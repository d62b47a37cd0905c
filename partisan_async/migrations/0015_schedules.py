from django.db import migrations, models

from partisan_async.postgres.migration import PostgresMigration

FORGET = "DELETE FROM partisan_async_schedule WHERE arguments IS NOT NULL"


class Migration(PostgresMigration):
    """Adds what is NULL in old rows: no row is written.

    The release before knows none of the keys of such schedules, and leaves their rows alone.
    """

    dependencies = [
        ("partisan_async", "0014_unique"),
    ]

    locked = ("partisan_async_schedule",)

    operations = [
        migrations.AddField(
            model_name="schedule",
            name="processor",
            field=models.CharField(
                blank=True,
                help_text="the processor's name, where the key is another",
                max_length=255,
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="schedule",
            name="arguments",
            field=models.TextField(
                blank=True, help_text="of one made at run time: JSON of its call", null=True
            ),
        ),
        migrations.AddField(
            model_name="schedule",
            name="rule",
            field=models.JSONField(
                blank=True, help_text="of one made at run time: when it ticks", null=True
            ),
        ),
        migrations.AddField(
            model_name="schedule",
            name="prior_tick",
            field=models.DateTimeField(blank=True, help_text="the one before the last", null=True),
        ),
        migrations.AddField(
            model_name="schedule",
            name="last_success",
            field=models.DateTimeField(
                blank=True, help_text="when a task of its ticks last finished", null=True
            ),
        ),
        migrations.AlterField(
            model_name="schedule",
            name="schedule",
            field=models.TextField(help_text="when it ticks"),
        ),
        migrations.AlterField(
            model_name="schedule",
            name="set_by",
            field=models.UUIDField(
                help_text="the supervisor whose code says when and in which queue; of one made at"
                " run time, a number that is new with each change"
            ),
        ),
        # What they are is in the columns that go.
        migrations.RunSQL(migrations.RunSQL.noop, FORGET),
    ]
