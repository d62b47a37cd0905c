"""Whether a queue flowed on beside a task that harms it: told by the order of what was recorded."""

from __future__ import annotations

from partisan_async.models import Task
from tests.faults.site import Site


def ended_beside(site: Site, task: Task) -> int:
    """Return how many others started after this task's first start and ended before it did."""
    events = site.events()
    first = min(event.n for event in events if event.task == task.pk)
    last = max(change.n for change in site.history().changes if change.task == task.pk)
    others = [event for event in events if event.task != task.pk and first < event.n < last]
    started = {(event.task, event.claim_seq) for event in others if event.kind == "start"}
    ended = {(event.task, event.claim_seq) for event in others if event.kind == "end"}
    return len(started & ended)
