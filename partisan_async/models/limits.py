"""Limits, as supervisors know them: their numbers, what operators changed, pauses, and starts."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from partisan_async.models.readable import always_read, optional_text


class Limit(models.Model):
    """What a limit allows, as the code says. Whoever claims under it locks this row."""

    name = models.CharField(max_length=255, primary_key=True)
    running = models.IntegerField(null=True, blank=True, help_text=_("at once, of all keys"))
    running_per_key = models.IntegerField(null=True, blank=True, help_text=_("at once, of a key"))
    rates = always_read(
        models.JSONField(
            default=list,
            db_default=models.Value([], models.JSONField()),
            help_text=_("pairs: so many starts within so many seconds, of all keys"),
        )
    )
    rates_per_key = always_read(
        models.JSONField(
            default=list,
            db_default=models.Value([], models.JSONField()),
            help_text=_("pairs: so many starts within so many seconds, of a key"),
        )
    )
    in_order = models.BooleanField(
        db_default=False, help_text=_("of each key one at a time, in the order of their ids")
    )
    ranked = models.BooleanField(
        db_default=True, help_text=_("whether its waiting tasks have the turns that this asks for")
    )
    set_by = models.UUIDField(help_text=_("the supervisor whose code says it"))

    def __str__(self) -> str:
        return self.name


class LimitOverride(models.Model):
    """What an operator allows in place of the code, until it is cleared."""

    id = models.BigAutoField(primary_key=True)
    name = models.CharField(max_length=255)
    key = optional_text(_("the one key that it is for"), db_collation="C")
    running = models.IntegerField(help_text=_("at once; 0: none"))
    set_at = always_read(models.DateTimeField(db_default=Now()))

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["name", "key"], nulls_distinct=False, name="partisan_async_one_override"
            ),
        ]

    def __str__(self) -> str:
        if self.key is None:
            return self.name
        return gettext("a key of %(name)s") % {"name": self.name}


class LimitPause(models.Model):
    """A time until which nothing of a key starts, as one of its tasks has asked for."""

    id = models.BigAutoField(primary_key=True)
    name = models.CharField(max_length=255)
    key = optional_text(db_collation="C")
    until = always_read(models.DateTimeField())

    class Meta:
        indexes = [models.Index(fields=["until"], name="partisan_async_limit_pause")]
        constraints = [
            models.UniqueConstraint(
                fields=["name", "key"], nulls_distinct=False, name="partisan_async_one_limit_pause"
            ),
        ]

    def __str__(self) -> str:
        return gettext("a key of %(name)s") % {"name": self.name}


class LimitStart(models.Model):
    """How many tasks started in one granule of a rate's window."""

    id = models.BigAutoField(primary_key=True)
    name = models.CharField(max_length=255)
    of_key = models.BooleanField(help_text=_("whether it counts one key, or all"))
    key = optional_text(db_collation="C")
    per_seconds = models.FloatField(help_text=_("the window of the rate"))
    granule = models.BigIntegerField(help_text=_("hundredths of the window, since 1970"))
    count = models.IntegerField()
    until = always_read(models.DateTimeField(help_text=_("when no window holds it any more")))

    class Meta:
        indexes = [models.Index(fields=["until"], name="partisan_async_start_until")]
        constraints = [
            models.UniqueConstraint(
                fields=["name", "of_key", "key", "per_seconds", "granule"],
                nulls_distinct=False,
                name="partisan_async_one_granule",
            ),
        ]

    def __str__(self) -> str:
        return gettext("starts under %(name)s") % {"name": self.name}
