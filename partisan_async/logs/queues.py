"""Lines about a queue: its pauses, its old rows, its counts, and a lack of supervisors."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence

from partisan_async.text.one_line import explain
from partisan_async.text.printable import plain

logger = logging.getLogger("partisan_async")


def paused(queue_name: str, processor_class: str | None = None) -> None:
    """Say that a queue, or one of its processors, is paused."""
    logger.info(
        "paused: %squeue %r; what runs goes on, and nothing is started",
        *(_of(processor_class), queue_name),
        extra=_of_pause("paused", queue_name, processor_class),
    )


def resumed(queue_name: str, processor_class: str | None = None) -> None:
    """Say that a queue, or one of its processors, is no longer paused."""
    logger.info(
        "resumed: %squeue %r",
        *(_of(processor_class), queue_name),
        extra=_of_pause("resumed", queue_name, processor_class),
    )


def not_parked(error: Exception) -> None:
    """Say that rows of paused processors stay among the ready ones, where claims skip them."""
    logger.info(
        "tasks of paused processors were not set aside: %s",
        explain(error),
        extra={"event": "not parked"},
    )


def pruned(queue_name: str, count: int) -> None:
    """Say that old rows were deleted."""
    logger.info("deleted %d old rows of queue %r", count, queue_name, extra={"event": "pruned"})


def not_pruned(queue_name: str, error: BaseException) -> None:
    """Say that old rows could not be deleted."""
    logger.warning(
        "old rows of queue %r were not deleted: %s",
        *(queue_name, explain(error)),
        extra={"event": "not pruned"},
    )


def served_too(queue_name: str) -> None:
    """Say that a queue that came up is served from now on."""
    logger.info(
        "serving queue %r, too: it has tasks, and nobody serves it",
        queue_name,
        extra={"event": "served too", "queue_name": queue_name},
    )


def over_not_pruned(what: str, error: BaseException) -> None:
    """Say that rows whose time is over could not be deleted; ``what``: what they are."""
    logger.warning(
        "%s that are over were not deleted: %s",
        what,
        explain(error),
        extra={"event": "not pruned"},
    )


def kept(queue_name: str, task_ids: Sequence[int], error: BaseException) -> None:
    """Say that the database refuses to delete some old rows; ``error``: that of the first row."""
    logger.warning(
        "%d old row(s) of queue %r were not deleted, such as %d: %s",
        *(len(task_ids), queue_name, task_ids[0], explain(error)),
        extra={"event": "kept", "queue_name": queue_name, "task_ids": task_ids},
    )


def not_counted(error: BaseException) -> None:
    """Say that an answer of ``/metrics`` lacks the number of waiting tasks."""
    logger.info("the queue was not counted: %s", explain(error), extra={"event": "not counted"})


def not_tallied(level: int, said: str) -> None:
    """Say that some counts for the dashboard were not written."""
    logger.log(
        level,
        "counts for the dashboard were not written: %s",
        said,
        extra={"event": "not tallied"},
    )


def unserved(queue_name: str) -> None:
    """Say that tasks wait in a queue without a supervisor."""
    logger.warning(
        "no supervisor serves queue %r, and it has tasks to run; start"
        " `manage.py start_partisan --async --queue_name=%s`",
        *(queue_name, plain(shlex.quote(queue_name))),
        extra={"event": "unserved"},
    )


def unserved_not_sought(error: BaseException) -> None:
    """Say that the look for queues without a supervisor failed."""
    logger.info(
        "looking for queues without a supervisor failed: %s",
        explain(error),
        extra={"event": "unserved not sought"},
    )


def _of(processor_class: str | None) -> str:
    return "" if processor_class is None else f"processor {plain(processor_class)} of "


def _of_pause(event: str, queue_name: str, processor_class: str | None) -> dict[str, str]:
    extra = {"event": event, "queue_name": queue_name}
    return extra if processor_class is None else extra | {"processor_class": processor_class}
