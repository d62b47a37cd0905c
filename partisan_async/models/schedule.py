"""When each scheduled processor is due next."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from partisan_async.models.readable import always_read


class Schedule(models.Model):
    """When a scheduled processor is due next. The supervisor that advances it enqueues the task."""

    processor_class = models.CharField(max_length=255, primary_key=True)
    queue_name = models.CharField(max_length=255)
    schedule = models.TextField(help_text=_("as the code of set_by has it"))
    enabled = models.BooleanField(db_default=True)
    last_tick = always_read(
        models.DateTimeField(null=True, blank=True, help_text=_("the last that came"))
    )
    next_tick = always_read(
        models.DateTimeField(
            null=True,
            blank=True,
            help_text=_("none while it is switched off, and until it is counted"),
        )
    )
    set_by = models.UUIDField(help_text=_("the supervisor whose code says when and in which queue"))

    def __str__(self) -> str:
        return f"{self.processor_class}: {self.schedule}"
