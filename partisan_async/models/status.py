"""The states of a task, and their values in the table."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class Status(models.TextChoices):
    """The state of a task; formats as its value, also in SQL."""

    NEW = "new", _("New")
    SCHEDULED = "scheduled", _("Scheduled")
    LIMITED = "limited", _("Limited")
    IN_PROCESS = "in_process", _("In process")
    FINISHED = "finished", _("Finished")
    ERROR = "error", _("Error")


WAITING = (Status.NEW.value, Status.SCHEDULED.value, Status.LIMITED.value)
ENDED = (Status.FINISHED.value, Status.ERROR.value)

TO_COME = ("blocked",)
"""States for a later release; the constraint allows them already, so it need not change then."""

# In the order of the constraint's migration: in another one it would be another constraint.
KNOWN = (
    *(each for each in Status.values if each != Status.LIMITED),
    Status.LIMITED.value,
    *TO_COME,
)


def _in_sql(words: tuple[str, ...]) -> str:
    return "(" + ", ".join(f"'{word}'" for word in words) + ")"


WAITING_SQL = _in_sql(WAITING)
"""For ``status IN …``: the planner uses a partial index if the statement has its condition."""

ENDED_SQL = _in_sql(ENDED)
KNOWN_SQL = _in_sql(KNOWN)
