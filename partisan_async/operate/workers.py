"""The worker processes of supervisors, as of their last sign of life."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from partisan_async import store
from partisan_async.models import Task, readable
from partisan_async.models.readable import is_key, is_number
from partisan_async.operate.states import RunState, SupervisorState, WorkerState


def still_held(supervisors: Sequence[SupervisorState]) -> set[int]:
    """Return the ids of the tasks that workers ran at the last heartbeat and that still run."""
    told = [run.id for each in supervisors for worker in each.workers for run in worker.tasks]
    rows = Task.objects.using(store.database()).filter(pk__in=told, status=Task.STATUS_IN_PROCESS)
    return set(rows.values_list("pk", flat=True))


def read_workers(told: str, silent: float) -> list[WorkerState]:
    """Return the worker processes that a supervisor's row describes."""
    # Another release may write another form, and somebody may have changed the row by hand.
    workers = readable.load(told)
    if not isinstance(workers, list):
        return [_UNREADABLE] if workers else []
    return [_worker(each, silent) for each in workers]


def read_memory(told: Any) -> int | None:
    """Return the bytes that a row tells; ``None``: none that can be read."""
    return told if is_key(told) and told >= 0 else None


_UNREADABLE = WorkerState(None, 0, [])


def _worker(told: Any, silent: float) -> WorkerState:
    match told:
        case {"pid": pid, "running": running, "tasks": list(tasks)} if is_key(pid):
            runs = [_run(each, silent) for each in tasks]
            known = [run for run in runs if run is not None]
            count = running if is_key(running) else len(known)
            return WorkerState(pid, count, known, read_memory(told.get("memory_bytes")))
    return _UNREADABLE


def _run(told: Any, silent: float) -> RunState | None:
    match told:
        case {"id": pk, "processor": str(name), "seconds": seconds} if is_key(pk):
            return RunState(pk, name, seconds + silent if is_number(seconds) else math.nan)
    return None
