"""Chooses the tasks of an action: by ids, by what they match, or both; in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import QuerySet
from django.db.models.functions import Now

from partisan_async import store
from partisan_async.enqueue.subjects import checked
from partisan_async.models import ENDED, Task
from partisan_async.registry import discovered_names

ABLE: dict[str, tuple[str, ...]] = {
    "retry": (Task.STATUS_ERROR,),
    "run-now": (Task.STATUS_SCHEDULED,),
    "cancel": store.UNENDED,
    "delete": ENDED,
}
"""For each action, the statuses of tasks that it is for."""

SINCE = {
    "retry": "finished_at",
    "run-now": "created_at",
    "cancel": "created_at",
    "delete": "finished_at",
}
"""For each action, the column from which a task's age is counted."""

AT_ONCE = 1000
"""Maximum number of tasks that one transaction steers."""


def refuse_subject(subject: object) -> None:
    """Refuse what no task can have as its subject; an empty one only finds none.

    :raises TypeError, ValueError: nothing can have this subject.
    """
    if subject != "":
        checked(subject)


@dataclass(frozen=True)
class Which:
    """A choice of tasks: those that match every given field.

    :raises TypeError, ValueError: nothing can have this subject.
    """

    queue_name: str | None = None
    processor: str | None = None
    older_than: timedelta | None = None
    statuses: Sequence[str] | None = None
    subject: str | None = None

    def __post_init__(self) -> None:
        refuse_subject(self.subject)

    def among(self, action: str) -> QuerySet[Task]:
        """Return the tasks that an action is for and that match now.

        :raises ValueError: the action is not for tasks in one of the given statuses.
        """
        given = {
            "queue_name": self.queue_name,
            "processor_class__in": None
            if self.processor is None
            else discovered_names(self.processor),
            f"{SINCE[action]}__lt": None if self.older_than is None else Now() - self.older_than,
            "subject": self.subject,
        }
        rows = Task.objects.using(store.database())
        tasks = rows.filter(status__in=self.statuses_for(action))
        return tasks.filter(**{key: value for key, value in given.items() if value is not None})

    def statuses_for(self, action: str) -> Sequence[str]:
        """Return the statuses of the tasks that an action is for; see ``among``."""
        able = ABLE[action]
        if self.statuses is None:
            return able
        if wrong := sorted(set(self.statuses).difference(able)):
            raise ValueError(
                f"{action}: no task in status {wrong[0]!r}; it is for {', '.join(able)}."
            )
        return self.statuses


def to_all(
    action: str,
    do: Callable[[Sequence[int]], list[int]],
    ids: Iterable[int] | None,
    which: Which,
) -> list[int]:
    """Run an action on the tasks of these ids that match; return the ids of the changed ones."""
    if which == Which():
        if ids is None:
            raise TypeError(f"{action}: say which tasks, by their ids or by the other parameters.")
        named = list(ids)
        parts: Iterable[list[int]] = (
            do(named[start:][:AT_ONCE]) for start in range(0, len(named), AT_ONCE)
        )
    else:
        tasks = which.among(action)
        parts = in_batches(do, tasks if ids is None else tasks.filter(pk__in=list(ids)))
    return [pk for part in parts for pk in sorted(part)]


def in_batches(
    do: Callable[[Sequence[int]], list[int]], tasks: QuerySet[Task]
) -> Iterator[list[int]]:
    """Change these tasks a thousand at a time; yield the ids of the changed ones of each thousand.

    Each thousand is a transaction of its own. Tasks that are enqueued meanwhile are left alone, and
    a task that matches again is not changed twice.
    """
    done, last = 0, tasks.order_by("-pk").values_list("pk", flat=True).first() or 0
    while ids := list(
        tasks.filter(pk__gt=done, pk__lte=last)
        .order_by("pk")
        .values_list("pk", flat=True)[:AT_ONCE]
    ):
        done = ids[-1]
        yield do(ids)
