"""What each processor's tasks did, minute by minute."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from partisan_async.models.readable import always_read


class Tally(models.Model):
    """What one processor's tasks did in one minute; supervisors add to it every few seconds."""

    id = models.BigAutoField(primary_key=True)
    minute = always_read(models.DateTimeField())
    queue_name = models.CharField(max_length=255)
    processor_class = models.CharField(max_length=255)
    finished = models.IntegerField(db_default=0)
    failed = models.IntegerField(db_default=0, help_text=_("ended in error"))
    retried = models.IntegerField(db_default=0)
    postponed = models.IntegerField(db_default=0)
    lost = models.IntegerField(db_default=0, help_text=_("runs whose worker process died"))
    cancelled = models.IntegerField(db_default=0, help_text=_("runs that cancelled their task"))
    run_seconds = models.FloatField(db_default=0.0, help_text=_("of all runs together"))
    longest_run_seconds = models.FloatField(db_default=0.0)
    wait_seconds = models.FloatField(
        db_default=0.0, help_text=_("of all runs together, from due to claimed")
    )
    longest_wait_seconds = models.FloatField(db_default=0.0)

    class Meta:
        verbose_name_plural = _("tallies")
        constraints = [
            models.UniqueConstraint(
                fields=["minute", "queue_name", "processor_class"],
                name="partisan_async_one_tally",
            ),
        ]

    def __str__(self) -> str:
        told = {"processor": self.processor_class, "time": f"{self.minute:%H:%M}"}
        return gettext("%(processor)s at %(time)s") % told
