"""The rules for how far ahead tasks are claimed and sent, as pure functions.

1. *Together*: tasks that take less than 5 ms on average go to a worker in batches of 25 ms; others
   go one by one (``Pace.batch_length``). A batch takes the next tasks in order while they are short
   enough for it, but at most an even share for each free worker.
2. *Sent ahead*: a worker that has only short tasks gets its next batch when half a batch is left,
   so that it is never idle in between. Not while async tasks, or tasks that must run alone, wait:
   they need a worker without a sync task, and would starve.
3. *Claimed ahead*: rows are claimed for tasks that workers can start now, and for those that they
   will start within about a second (``AHEAD_SECONDS``), until ``MAX_QUEUE_SIZE`` wait here. More
   rows are left to other supervisors. Under limits a claim takes the slot: rows are claimed no
   further ahead than a batch is long.
4. *Not claimed*: nothing, while no worker is free and more than ``MIN_QUEUE_SIZE`` tasks wait here.

The pool decides whether a worker is free; these functions get the number of free workers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from partisan_async.claim import Claim


def sent_ahead(together: int, *, others_wait: bool) -> int:
    """Return how many short sync tasks a worker may still have and get another batch.

    :param together: the length of a batch.
    :param others_wait: async tasks, or tasks that must run alone, wait for a worker.
    """
    return 0 if others_wait else together // 2


def batch_to_send(
    waiting: Sequence[Claim], free: int, together: int, length_of: Callable[[str], int]
) -> int:
    """Return how many of the first waiting tasks go to one worker.

    :param free: number of workers that can be sent sync tasks; at least 1.
    :param together: batch length of the first task's processor.
    :param length_of: returns the batch length of a processor.
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
    """Return the number of rows to claim.

    :param free: number of workers that can be sent sync tasks.
    :param at_once: number of tasks that workers can be sent now.
    :param soon: number of further tasks that will start within about a second.
    :param buffered: number of claimed tasks that wait here.
    :param least: while no worker is free and more than these wait here, nothing is claimed.
    :param most: maximum number of tasks that wait here, unless ``at_once`` is larger.
    """
    if buffered > least and not free:
        return 0
    return max(0, min(max(most, at_once), at_once + soon) - buffered)
