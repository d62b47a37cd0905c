"""What one worker process may be sent, and what it is asked to hand back. Pure rules.

A worker runs sync tasks one after the other in its main thread, and async tasks side by side on its
event loop. The main thread hands async tasks to the loop, so they wait behind a sync task, too. The
best worker starts the task at once. But a *short* task ends before the next one could arrive,
so short tasks are sent *ahead*: they wait in the worker behind other short ones.

What a worker is sent:

| its open sync tasks | a sync task | async tasks |
| --- | --- | --- |
| none | yes | up to its concurrency; none while its event loop is blocked |
| up to `ahead`, all short, none overdue, none asked back | yes, if it is short | none |
| any other | no | none |
| a suspect, sync or async | no | none |

A task is *overdue* when it has run for ``OVERDUE_SECONDS``: it is not short, and tasks sent behind
it would wait. After tasks are *asked back*, none are sent ahead until the answer: they would
overtake those that come back.

When a worker is asked to hand back all tasks that it has not started, so that others start them:

| in the worker | asked |
| --- | --- |
| sync tasks behind an overdue one | yes |
| async tasks, none of them started for ``OVERDUE_SECONDS`` | yes: its event loop is blocked |
| anything else | no |

An event loop counts as blocked for ``BLOCKED_SECONDS``, or until an async task starts or ends.
Then it is sent async tasks again, to test it.

While tasks wait in a worker, these rules are checked ``OVERDUE_SECONDS`` after the tasks were sent,
and then every ``LOOK_AGAIN_SECONDS``.
"""

from __future__ import annotations

from partisan_async.supervisor.workers.load import Load

OVERDUE_SECONDS = 0.03
"""Run time after which tasks that wait behind a task are asked back."""

LOOK_AGAIN_SECONDS = OVERDUE_SECONDS / 4
"""Short against ``OVERDUE_SECONDS``, so that a task is noticed soon after it becomes overdue."""

BLOCKED_SECONDS = 1.0
"""Time for which a blocked event loop gets no async tasks."""


def takes_sync(load: Load, ahead: int, now: float) -> bool:
    """Tell whether a sync task may be sent.

    :param ahead: maximum number of open sync tasks that it may wait behind; more than 0 only if
        the task is short.
    """
    if load.runs_suspect:
        return False
    if not load.open_sync:
        return True
    return (
        load.open_sync <= ahead
        and load.only_short
        and not load.asked_back
        and not is_overdue(load.busy_since, now)
    )


def async_room(load: Load, concurrency: int, now: float) -> int:
    """Return the number of async tasks that may be sent."""
    if load.runs_suspect or load.open_sync or load.loop_blocked_until > now:
        return 0
    return int(min(concurrency - load.open_async, load.remaining))


def waits_behind_overdue(load: Load, now: float) -> bool:
    """Tell whether sync tasks wait behind an overdue one."""
    return load.open_sync > 1 and is_overdue(load.busy_since, now)


def waits_for_blocked_loop(load: Load, now: float) -> bool:
    """Tell whether async tasks wait for an event loop that is blocked and not yet known to be."""
    return load.loop_blocked_until < now and is_overdue(load.loop_waited_for_since, now)


def is_overdue(since: float | None, now: float) -> bool:
    """Tell whether ``OVERDUE_SECONDS`` have passed since then; ``None``: they have not."""
    return since is not None and now - since >= OVERDUE_SECONDS
