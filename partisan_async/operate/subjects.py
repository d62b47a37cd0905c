"""What there is of one subject: its tasks, by status and the newest of them, and its schedules."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count

from partisan_async import store
from partisan_async.enqueue.run import fetch
from partisan_async.models import Schedule, Task
from partisan_async.models.readable import seconds_since

SHOWN = 20
"""Maximum number of tasks, and of schedules, that are named."""

_NEWEST = f"""
SELECT id, processor_class, queue_name, status, {seconds_since("created_at")}
FROM partisan_async_task WHERE subject = %(subject)s ORDER BY id DESC LIMIT {SHOWN}
"""  # noqa: S608


@dataclass(frozen=True)
class SubjectTask:
    """A task of it.

    :param age: seconds since it was enqueued.
    """

    id: int
    processor: str
    queue: str
    status: str
    age: float


@dataclass(frozen=True)
class SubjectState:
    """What there is.

    :param statuses: number of tasks by status.
    :param tasks: the newest ones.
    :param schedules: keys of those made at run time, the first ones.
    """

    subject: str
    statuses: dict[str, int]
    tasks: list[SubjectTask]
    schedules: list[str]


def of_subject(subject: str) -> SubjectState:
    """Return what there is of a subject."""
    alias = store.database()
    tasks = Task.objects.using(alias).filter(subject=subject)
    counts = tasks.values_list("status").annotate(count=Count("*")).order_by("status")
    schedules = Schedule.objects.using(alias).filter(subject=subject).order_by("pk")
    newest = [SubjectTask(*row) for row in fetch(_NEWEST, {"subject": subject}, alias)]
    keys = list(schedules.values_list("pk", flat=True)[:SHOWN])
    return SubjectState(subject, dict(counts), newest, keys)
