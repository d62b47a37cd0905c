"""Labels of the models and their columns on pages, in the reader's language.

Not in the models themselves: a label there is a part of migrations, and each change would need a
migration that changes nothing in the database.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from django.db.models import Model
from django.utils.translation import gettext_lazy as _

from partisan_async import models

if TYPE_CHECKING:
    from django_stubs_ext import StrPromise

NAMES: Mapping[type[Model], tuple[StrPromise, StrPromise]] = {
    models.Task: (_("task"), _("tasks")),
    models.Supervisor: (_("supervisor"), _("supervisors")),
    models.PausedQueue: (_("paused queue"), _("paused queues")),
    models.PausedProcessor: (_("paused processor"), _("paused processors")),
    models.Home: (_("home"), _("homes")),
    models.Schedule: (_("schedule"), _("schedules")),
    models.Tally: (_("tally"), _("tallies")),
}
"""Labels of each model: singular and plural."""

COLUMNS: Mapping[type[Model], Mapping[str, StrPromise]] = {
    models.Task: {
        "id": _("id"),
        "queue_name": _("queue name"),
        "priority": _("priority"),
        "claim_seq": _("claim seq"),
        "claimed_by": _("claimed by"),
        "tries": _("tries"),
        "postpones": _("postpones"),
        "lost": _("lost"),
        "unrecognised": _("unrecognised"),
        "interrupted": _("interrupted"),
        "stops": _("stops"),
    },
    models.Supervisor: {
        "id": _("id"),
        "hostname": _("hostname"),
        "process": _("process"),
        "queue_name": _("queue name"),
    },
    models.Schedule: {
        "processor_class": _("processor class"),
        "queue_name": _("queue name"),
        "schedule": _("schedule"),
        "enabled": _("enabled"),
        "set_by": _("set by"),
    },
}
"""Labels of the columns that the admin shows by their field names."""


def attach() -> None:
    """Set these labels on the models and their columns."""
    for model, (one, several) in NAMES.items():
        model._meta.verbose_name = one  # noqa: SLF001  documented API in spite of its name
        model._meta.verbose_name_plural = several  # noqa: SLF001
    for model, labels in COLUMNS.items():
        for name, label in labels.items():
            model._meta.get_field(name).verbose_name = label  # type: ignore[union-attr]  # noqa: SLF001
