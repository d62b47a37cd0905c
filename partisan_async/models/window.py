"""The windows of ``UNIQUE``: times in which calls with a key are ignored."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from partisan_async.models.readable import always_read


class UniqueWindow(models.Model):
    """A time in which calls with this key are ignored; the task that began it may be gone.

    Supervisors delete those that are over. To delete one before ends it.
    """

    key = models.BinaryField(primary_key=True)
    until = always_read(models.DateTimeField())
    task_id = models.BigIntegerField(help_text=_("the task that was enqueued when it began"))
    subject = models.CharField(  # noqa: DJ001  NULL is in no index
        max_length=255, null=True, blank=True, db_collation="C", help_text=_("whose task that is")
    )

    class Meta:
        indexes = [
            models.Index(fields=["until"], name="partisan_async_window_until"),
            models.Index(
                fields=["subject"],
                condition=models.Q(subject__isnull=False),
                name="partisan_async_window_subject",
            ),
        ]

    def __str__(self) -> str:
        return gettext("since task %(task)s") % {"task": self.task_id}
