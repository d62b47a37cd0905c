"""The place that the database belongs to, in one row."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from partisan_async.models.readable import always_read


class Home(models.Model):
    """Where this database belongs, in the one row of its table; see ``steering.home``."""

    id = models.SmallIntegerField(primary_key=True, db_default=1)
    name = models.CharField(max_length=255, blank=True, help_text=_("PARTISAN_HOME; empty: none"))
    server = models.CharField(
        max_length=32, blank=True, help_text=_("the server's system_identifier; empty: not known")
    )
    database = models.CharField(max_length=255, help_text=_("the database's name"))
    kept_at = always_read(models.DateTimeField(db_default=Now()))

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(id=1), name="partisan_async_one_home"),
        ]

    def __str__(self) -> str:
        return self.name or self.database
