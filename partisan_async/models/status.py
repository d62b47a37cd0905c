"""The states that a task is in, and their words in the table."""

from __future__ import annotations

from django.db import models


class Status(models.TextChoices):
    """Where a task is on its way; formats as its word, also in SQL text."""

    NEW = "new", "New"
    SCHEDULED = "scheduled", "Scheduled"
    IN_PROCESS = "in_process", "In process"
    FINISHED = "finished", "Finished"
    ERROR = "error", "Error"


WAITING = (Status.NEW.value, Status.SCHEDULED.value)
ENDED = (Status.FINISHED.value, Status.ERROR.value)

TO_COME = ("limited", "blocked")
"""States that the table takes already: a later release needs no other constraint for them."""

KNOWN = (*Status.values, *TO_COME)
