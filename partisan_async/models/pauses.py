"""Pauses: queues and processors whose tasks are not started."""

from __future__ import annotations

import datetime

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from partisan_async.models.readable import always_read, aware

NEVER_BEGINS = datetime.datetime(9999, 1, 1, tzinfo=datetime.UTC)
NEVER_ENDS = datetime.datetime(9999, 12, 1, tzinfo=datetime.UTC)
"""Parked tasks are scheduled for a time between these, see ``store.parking``."""


def is_far(due: object) -> bool:
    """Tell whether a task's time is that of a parked one."""
    if not isinstance(due, datetime.datetime):  # replaced by "?", see readable.mark
        return False
    return NEVER_BEGINS <= aware(due) < NEVER_ENDS


class PausedQueue(models.Model):
    """A queue whose tasks are not started while this row exists; runs go on."""

    queue_name = models.CharField(max_length=255, primary_key=True)
    paused_at = always_read(models.DateTimeField(db_default=Now()))

    def __str__(self) -> str:
        return self.queue_name


class PausedProcessor(models.Model):
    """A processor whose tasks are not started while ``resumed_at`` is empty; runs go on.

    Its tasks are *parked* meanwhile, see ``store.parking``. After the pause the row stays until all
    of them are unparked.
    """

    id = models.BigAutoField(primary_key=True)
    processor_class = models.CharField(max_length=255)
    queue_name = models.CharField(max_length=255, blank=True, help_text=_("empty: in every queue"))
    paused_at = always_read(models.DateTimeField(db_default=Now()))
    resumed_at = always_read(models.DateTimeField(null=True, blank=True))

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["processor_class", "queue_name"], name="partisan_async_one_pause"
            ),
        ]

    def __str__(self) -> str:
        if not self.queue_name:
            return self.processor_class
        told = {"processor": self.processor_class, "queue": self.queue_name}
        return gettext("%(processor)s in queue %(queue)s") % told
