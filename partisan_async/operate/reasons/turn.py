"""When it is a ready task's turn: what is claimed before it, and which workers are free."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from django.utils.translation import gettext, ngettext

from partisan_async.enqueue.run import fetch
from partisan_async.models import Task
from partisan_async.operate import overview
from partisan_async.operate.overview import RunState, SupervisorState
from partisan_async.operate.reasons.words import WORKERS, counted, listed, now
from partisan_async.operate.ways_out import WaysOut
from partisan_async.text.durations import in_words

NAMED = 5
"""Maximum number of tasks named among those that keep the workers busy."""

COUNTED = 1000
"""Maximum number counted of the tasks that are claimed before it."""

ODD_SECONDS = 60.0
"""Time after which a task that is next, with a worker free, should have started."""


def behind(task: Task, willing: Sequence[SupervisorState], ways: WaysOut) -> Iterator[str]:
    """Say how many tasks come first, and whether a worker is free."""
    before = _count_before(task)
    free, told = _workers(task, willing, ways)
    if before:
        yield _told_before(before)
    if told is not None:
        yield told
    elif not before:
        yield from _next(task, free, ways)


def busy(task: Task, willing: Sequence[SupervisorState], ways: WaysOut) -> Iterator[str]:
    """Say that no worker is free, if none is."""
    _, told = _workers(task, willing, ways)
    if told is not None:
        yield told


def _workers(
    task: Task, willing: Sequence[SupervisorState], ways: WaysOut
) -> tuple[int, str | None]:
    """Return how many workers are free, and what to say where all are busy."""
    workers = [(each, worker) for each in willing for worker in each.workers]
    held = overview.still_held(willing)
    runs = [run for _, worker in workers for run in worker.tasks if run.id in held]
    # A worker that runs more tasks than it names counts as busy: the rest may have ended, but
    # hardly all of them.
    free = sum(
        1
        for _, worker in workers
        if worker.running <= len(worker.tasks) and not any(run.id in held for run in worker.tasks)
    )
    told = _told_busy(task, len(workers), runs, ways) if runs and not free else None
    return free, told


def _told_before(count: int) -> str:
    if count > COUNTED:
        said = gettext(
            "It waits behind others: more than %(count)s tasks are to be claimed before it."
        )
        return said % {"count": f"{COUNTED:,}"}
    return ngettext(
        "It waits behind others: %(count)s task is to be claimed before it.",
        "It waits behind others: %(count)s tasks are to be claimed before it.",
        count,
    ) % {"count": f"{count:,}"}


def _told_busy(task: Task, workers: int, runs: Sequence[RunState], ways: WaysOut) -> str:
    longest = sorted(runs, key=lambda run: -run.seconds)[:NAMED]
    each = gettext("%(task)s for %(time)s")
    return ngettext(
        "The only worker of queue %(queue)r is busy, the longest with: %(tasks)s.",
        "All %(count)s workers of queue %(queue)r are busy, the longest with: %(tasks)s.",
        workers,
    ) % {
        "count": f"{workers:,}",
        "queue": task.queue_name,
        "tasks": listed(
            each % {"task": ways.task(run.id, run.processor), "time": in_words(run.seconds)}
            for run in longest
        ),
    }


def _next(task: Task, free: int, ways: WaysOut) -> Iterator[str]:
    ready = (now() - max(task.execute_after, task.created_at)).total_seconds()
    if not free:
        yield gettext("It is next, as soon as a worker is up.")
        return
    said = gettext("It is next: nothing is before it, and %(workers)s had nothing to do.")
    yield said % {"workers": counted(WORKERS, free)}
    if ready > ODD_SECONDS and not task.suspect and not task.lost:
        said = gettext("That it has been ready for %(time)s is odd: %(way)s")
        yield said % {"time": in_words(ready), "way": ways.look_further()}


def _count_before(task: Task) -> int:
    # A row comparison is an index condition, so that the index is read up to this task only. Two
    # conditions with OR would be a filter over the whole queue.
    ((count,),) = fetch(
        """
        SELECT count(*) FROM (
            SELECT FROM partisan_async_task
            WHERE status = 'new' AND queue_name = %(queue_name)s
                AND (priority, id) < (%(priority)s, %(id)s)
            ORDER BY queue_name, priority, id LIMIT %(limit)s) AS before
        """,
        {
            "queue_name": task.queue_name,
            "priority": task.priority,
            "id": task.pk,
            "limit": COUNTED + 1,
        },
    )
    return cast("int", count)
