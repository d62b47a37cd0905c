"""What became of the tasks of a demo, in numbers and in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from django.db.models import Count, F, Min, Q, QuerySet, Sum

from example_site.gallery.images import NotAPicture
from partisan_async.models import Task

EXPECTED = f"{NotAPicture.__module__}.{NotAPicture.__qualname__}"
"""The one error that a task should end in: its file is no picture."""

HEADER = ("processor", "queue", "state", "count", "total s", "mean ms")
FIRST_NUMBER = HEADER.index("count")
MOST_LINES = 10


def unended(tasks: QuerySet[Task]) -> QuerySet[Task]:
    """Return the tasks that wait or run."""
    return tasks.exclude(status__in=(Task.STATUS_FINISHED, Task.STATUS_ERROR))


def failures(tasks: QuerySet[Task]) -> tuple[list[Task], list[Task]]:
    """Return the tasks that failed as they should, and those that failed and should not have."""
    failed = tasks.filter(status=Task.STATUS_ERROR).order_by("pk")
    expected: list[Task] = []
    unexpected: list[Task] = []
    for task in failed:
        as_it_should = task.errors[-1]["exception_class"] == EXPECTED
        (expected if as_it_should else unexpected).append(task)
    return expected, unexpected


def described(task: Task) -> str:
    """Return a task's name and the last error on its row, in a line."""
    error = task.errors[-1]
    kind = error["exception_class"].rpartition(".")[2]
    return f"{task.processor_class} #{task.pk}: {kind}: {error['message']}"


def listed(lines: Sequence[str]) -> str:
    """Return the lines as a list to print, cut where there are many."""
    more = len(lines) - MOST_LINES
    shown = [*lines[:MOST_LINES], *([f"and {more} more"] if more > 0 else [])]
    return "\n".join(f"  {line}" for line in shown)


def progress(tasks: QuerySet[Task]) -> str:
    """Return how many tasks are in each state, in a line."""
    counts = dict(tasks.order_by().values_list("status").annotate(Count("pk")))
    return ", ".join(
        f"{counts[state]} {state}" for state, _ in Task.STATUS_CHOICES if state in counts
    )


def detours(tasks: QuerySet[Task]) -> str:
    """Return how often tasks were tried again and postponed, in a sentence."""
    sums = tasks.aggregate(
        retries=Sum(F("tries") - 1, filter=Q(tries__gt=1), default=0),
        postpones=Sum("postpones", default=0),
    )
    return (
        f"On the way {sums['retries']} runs timed out and were tried again, and {sums['postpones']}"
        " came too early and were postponed."
    )


def table(tasks: QuerySet[Task]) -> str:
    """Return a line per processor and state: how many tasks, and how long their last runs took."""
    groups = tasks.values_list("processor_class", "queue_name", "status")
    rows = groups.annotate(
        count=Count("pk"),
        took=Sum(F("finished_at") - F("last_attempted_at")),
        first=Min("pk"),
    ).order_by("first")
    return _aligned([HEADER, *(_cells(*row[:5]) for row in rows)])


def _cells(
    processor: str, queue: str, state: str, count: int, took: timedelta | None
) -> Sequence[str]:
    if took is None:
        return (processor, queue, state, str(count), "-", "-")
    seconds = took.total_seconds()
    return (processor, queue, state, str(count), f"{seconds:.2f}", f"{1000 * seconds / count:.0f}")


def _aligned(rows: Iterable[Sequence[str]]) -> str:
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    lines = []
    for row in rows:
        words, numbers = row[:FIRST_NUMBER], row[FIRST_NUMBER:]
        cells = [word.ljust(width) for word, width in zip(words, widths, strict=False)]
        cells += [n.rjust(width) for n, width in zip(numbers, widths[FIRST_NUMBER:], strict=True)]
        lines.append("  ".join(cells))
    return "\n".join(lines)
