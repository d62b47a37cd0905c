"""How far ahead tasks are claimed and sent, as pure functions: the whole rule is on this page.

1. *Together*: tasks that take under 5 ms on average go to a worker in batches of 25 ms; others go
   one by one (``Pace.batch_length``). A batch takes in the tasks behind the first, as long as they
   are short enough for it too, and no more than would leave another free worker without.
2. *Sent ahead*: a worker that has only short tasks gets its next batch when half of one is left,
   so that it does not stand still meanwhile. Not while async tasks, or those that must run alone,
   wait: they need a worker without a sync task, and would never get one.
3. *Claimed ahead*: rows are claimed for what workers can start at once, and for what they will
   start within about a second (``Pace.starts_within_ahead``), up to ``MAX_QUEUE_SIZE`` that wait
   here. Rows beyond that are left to other supervisors.
4. *Not claimed*: while no worker is free and more than ``MIN_QUEUE_SIZE`` tasks wait here.

When a worker takes tasks at all is the pool's to say: here it is a number of free workers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from partisan_async.claim import Claim


def sent_ahead(together: int, *, others_wait: bool) -> int:
    """Return how many short sync tasks a worker may still have and get another batch.

    :param together: the length of a batch.
    :param others_wait: async tasks, or those that must run alone, wait for a worker.
    """
    return 0 if others_wait else together // 2


def batch_to_send(
    waiting: Sequence[Claim], free: int, together: int, length_of: Callable[[str], int]
) -> int:
    """Return how many of the tasks that wait, from the first on, go to one worker.

    :param free: the number of workers that can be sent sync tasks; at least one.
    :param together: how many of the first one's processor may go together.
    :param length_of: tells the same of another processor.
    """
    first = waiting[0].processor_class
    longest = min(-(-len(waiting) // free), together)
    length = 1
    while length < longest:
        name = waiting[length].processor_class
        if name != first and length_of(name) < longest:
            break
        length += 1
    return length


def room_to_claim(
    *, free: int, at_once: int, soon: int, buffered: int, least: int, most: int
) -> int:
    """Return how many more rows to claim.

    :param free: the number of workers that can be sent sync tasks.
    :param at_once: how many tasks workers can be sent now.
    :param soon: how many will start within about a second.
    :param buffered: how many claimed tasks wait here.
    :param least: up to how many may wait while no worker is free, and more be claimed.
    :param most: how many may wait here, besides those that are sent at once.
    """
    if buffered > least and not free:
        return 0
    return max(0, min(max(most, at_once), at_once + soon) - buffered)
