"""The states that a task is in, and their words in the table."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class Status(models.TextChoices):
    """Where a task is on its way; formats as its word, also in SQL text."""

    NEW = "new", _("New")
    SCHEDULED = "scheduled", _("Scheduled")
    IN_PROCESS = "in_process", _("In process")
    FINISHED = "finished", _("Finished")
    ERROR = "error", _("Error")


WAITING = (Status.NEW.value, Status.SCHEDULED.value)
ENDED = (Status.FINISHED.value, Status.ERROR.value)

TO_COME = ("limited", "blocked")
"""States that the table takes already: a later release needs no other constraint for them."""

KNOWN = (*Status.values, *TO_COME)


def _in_sql(words: tuple[str, ...]) -> str:
    return "(" + ", ".join(f"'{word}'" for word in words) + ")"


WAITING_SQL = _in_sql(WAITING)
"""For ``status IN …``: a partial index is used where its own condition stands in the statement."""

ENDED_SQL = _in_sql(ENDED)
KNOWN_SQL = _in_sql(KNOWN)
