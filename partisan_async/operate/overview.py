"""What the tables say about queues, pauses, failures and supervisors. Only reads."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import Error

from partisan_async import store
from partisan_async.enqueue.run import fetch
from partisan_async.models import readable
from partisan_async.operate.statements import FAILED, QUEUES, SUPERVISORS
from partisan_async.operate.states import (
    FailedTask,
    PauseState,
    QueueState,
    RunState,
    SupervisorState,
    WorkerState,
)
from partisan_async.operate.workers import read_memory, read_workers, still_held

__all__ = [
    "COUNTED",
    "FAILED",
    "QUEUES",
    "RECENT",
    "SUPERVISORS",
    "FailedTask",
    "PauseState",
    "QueueState",
    "RunState",
    "SupervisorState",
    "WorkerState",
    "failed_lately",
    "pauses",
    "queues",
    "still_held",
    "supervisors",
]


RECENT = timedelta(hours=1)
"""Period over which ended tasks are counted."""

COUNTED = 100_000
"""Maximum number of waiting tasks counted where the count is shown again and again."""


def queues(at_most: int | None = None) -> list[QueueState]:
    """Return the queues with open tasks, supervisors, a pause or ends of the last hour, by name.

    :param at_most: stop counting ready tasks, scheduled and limited ones at this number each. To
        count a million takes a quarter of a second.
    """
    return [QueueState(*row) for row in _fetch(QUEUES, at_most=at_most)]


def pauses(at_most: int = COUNTED) -> list[PauseState]:
    """Return the processors that are paused, by name; see ``queues`` for ``at_most``."""
    statement = store.pauses(at_most)
    return [PauseState(*row) for row in _fetch(statement.sql, **statement.params)]


def failed_lately(at_most: int = 5) -> list[FailedTask]:
    """Return the tasks that ended in error last, the newest first; none, if they cannot be read.

    Call it last in a transaction: a database error, which is swallowed here, breaks that.
    """
    try:
        return [FailedTask(*row) for row in _fetch(FAILED, at_most=at_most)]
    except Error:
        return []


def supervisors() -> list[SupervisorState]:
    """Return the supervisors that have a row, by queue."""
    return [
        SupervisorState(
            *(*state, silent, read_workers(told, silent), since, read_memory(readable.load(memory)))
        )
        for *state, silent, told, since, memory in _fetch(SUPERVISORS)
    ]


def _fetch(sql: str, **params: Any) -> list[Any]:
    common = {"ttl": timedelta(seconds=store.TTL_SECONDS), "recent": RECENT}
    return fetch(sql, common | params)
