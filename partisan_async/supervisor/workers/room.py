"""How much more one worker process is sent, and what it is asked to hand back. Pure rules.

A worker runs sync tasks one after the other, and async ones side by side on its event loop. Its
main thread puts them there, so async tasks wait behind a sync one, too. A task is best sent where
it starts at once. But a *short* task is over before the next one could arrive, so short ones are
sent *ahead*: they wait in the worker behind others like them.

What a worker is sent:

| its open sync tasks | a sync task | async tasks |
| --- | --- | --- |
| none | yes | up to its concurrency; none while its event loop is blocked |
| up to `ahead`, all short, none overdue, none asked back | yes, if it is short | none |
| more, or others | no | none |
| a suspect of either kind | no | none |

*Overdue* is a task that has run for ``OVERDUE_SECONDS``: it is not short, and what is sent behind
it would wait. While what waits in a worker is *asked back*, nothing is sent ahead: it would
overtake what comes back.

What a worker is asked to hand back, all that has not started, so that others start it:

| in the worker | asked back |
| --- | --- |
| sync tasks behind an overdue one | yes |
| async tasks, none of them started for ``OVERDUE_SECONDS`` | yes: its event loop is blocked |
| others | no |

An event loop is taken to be blocked for ``BLOCKED_SECONDS``, or until an async task in it starts or
ends. Then it is sent async tasks again, to see whether it is blocked still.

While tasks wait in a worker, this is looked at ``OVERDUE_SECONDS`` after they were sent, and then
every ``LOOK_AGAIN_SECONDS``.
"""

from __future__ import annotations

from partisan_async.supervisor.workers.load import Load

OVERDUE_SECONDS = 0.03
"""A task that runs for longer gives back those that wait behind it."""

LOOK_AGAIN_SECONDS = OVERDUE_SECONDS / 4
"""A fraction of it: what began just after a look is not to wait for the next but one."""

BLOCKED_SECONDS = 1.0
"""An event loop that is blocked is spared more tasks for this time, before it is tried again."""


def takes_sync(load: Load, ahead: int, now: float) -> bool:
    """Tell whether a sync task may be sent.

    :param ahead: maximum number of sync tasks that it may wait behind; more than 0 where it is
        short.
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
    """Return how many async tasks may be sent."""
    if load.runs_suspect or load.open_sync or load.loop_blocked_until > now:
        return 0
    return int(min(concurrency - load.open_async, load.remaining))


def waits_behind_overdue(load: Load, now: float) -> bool:
    """Tell whether sync tasks wait behind one that takes too long."""
    return load.open_sync > 1 and is_overdue(load.busy_since, now)


def waits_for_blocked_loop(load: Load, now: float) -> bool:
    """Tell whether async tasks wait for an event loop that starts none, and is not spared yet."""
    return load.loop_blocked_until < now and is_overdue(load.loop_waited_for_since, now)


def is_overdue(since: float | None, now: float) -> bool:
    """Tell whether what began at ``since``, if anything did, has taken too long."""
    return since is not None and now - since >= OVERDUE_SECONDS
