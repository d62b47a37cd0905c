"""When each schedule is due next: those in the code, and those made at run time."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from partisan_async.models.readable import always_read

MADE = models.Q(arguments__isnull=False)
"""The condition of those made at run time."""


class Schedule(models.Model):
    """When a schedule is due next. The supervisor that advances it enqueues the task.

    Its key, in ``processor_class``, is the processor's name for a ``SCHEDULE``, ``Processor:name``
    for one of ``SCHEDULES``, and ``:name`` for one made at run time.
    """

    processor_class = models.CharField(max_length=255, primary_key=True)
    queue_name = models.CharField(max_length=255)
    schedule = models.TextField(help_text=_("when it ticks"))
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
    set_by = models.UUIDField(
        help_text=_(
            "the supervisor whose code says when and in which queue; of one made at run time, a"
            " number that is new with each change"
        )
    )
    processor = models.CharField(  # noqa: DJ001  NULL in the rows of the release before
        max_length=255,
        null=True,
        blank=True,
        help_text=_("the processor's name, where the key is another"),
    )
    arguments = models.TextField(  # noqa: DJ001  NULL tells those of the code
        null=True, blank=True, help_text=_("of one made at run time: JSON of its call")
    )
    rule = always_read(
        models.JSONField(
            null=True, blank=True, help_text=_("of one made at run time: when it ticks")
        )
    )
    prior_tick = always_read(
        models.DateTimeField(null=True, blank=True, help_text=_("the one before the last"))
    )
    last_success = always_read(
        models.DateTimeField(
            null=True, blank=True, help_text=_("when a task of its ticks last finished")
        )
    )
    subject = models.CharField(  # noqa: DJ001  NULL in the rows of the release before
        max_length=255, null=True, blank=True, db_collation="C", help_text=_("whose tasks it has")
    )
    limit_key = models.CharField(  # noqa: DJ001  NULL is no key, and "" is one
        max_length=255,
        null=True,
        blank=True,
        db_collation="C",
        help_text=_("of one made at run time: its tasks' key under their limit"),
    )
    keyed_as = models.UUIDField(
        null=True,
        blank=True,
        help_text=_("what set_by was when that key was asked for; another one: it is not known"),
    )

    def __str__(self) -> str:
        return f"{self.processor_class}: {self.schedule}"

    @property
    def is_made(self) -> bool:
        """Whether it was made at run time, and is in no code."""
        return self.arguments is not None

    @property
    def processor_name(self) -> str:
        """The name of its processor."""
        return self.processor or self.processor_class
