"""The running supervisors: each has a row while it lives."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from partisan_async.models.readable import always_read


class Supervisor(models.Model):
    """A running ``start_partisan``, which is alive while its heartbeats come."""

    id = models.UUIDField(primary_key=True, help_text=_("fresh at every start"))
    hostname = models.CharField(max_length=255)
    process = always_read(
        models.JSONField(help_text=_("boot_id, pid_namespace, pid and started, where known"))
    )
    queue_name = models.CharField(max_length=255)
    started_at = always_read(models.DateTimeField(db_default=Now()))
    # No index: so a beat is a HOT update, and the table does not grow.
    last_seen_at = always_read(models.DateTimeField(db_default=Now()))
    draining = models.BooleanField(
        db_default=False,
        help_text=_("was asked to start nothing more, and to end when all is done"),
    )
    stopping_since = always_read(
        models.DateTimeField(
            null=True,
            blank=True,
            help_text=_("since when it starts nothing more, and is about to end"),
        )
    )
    workers = always_read(
        models.JSONField(
            default=list,
            db_default=models.Value([], models.JSONField()),
            help_text=_("pid and tasks of each, as of last_seen_at"),
        )
    )

    def __str__(self) -> str:
        told = {"queue": self.queue_name, "host": self.hostname, "id": self.id}
        return gettext("%(queue)s on %(host)s (%(id)s)") % told


class Dashboard(Supervisor):
    """The dashboard's entry in the admin's index, for users who may view tasks and supervisors."""

    class Meta:
        proxy = True
        default_permissions = ()
        verbose_name = verbose_name_plural = _("dashboard")
