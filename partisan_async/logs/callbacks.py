"""Lines about the project's own code that raised or blocked outside ``run()``."""

from __future__ import annotations

import logging
from typing import Any

from partisan_async.claim import Claim
from partisan_async.logs.about import about, logger
from partisan_async.text.printable import plain

_in_worker = logging.getLogger("partisan_async.worker")


def receiver_failed(
    signal: str, receiver: Any, error: BaseException, task: tuple[Any, str, str] | None
) -> None:
    """Say that a receiver of a signal raised.

    :param task: id, processor and queue of the task that the signal was about, if any.
    """
    extra: dict[str, Any] = {"event": "receiver failed"}
    if task is not None:
        extra |= dict(zip(("task_id", "processor_class", "queue_name"), task, strict=True))
    logger.error(
        "receiver failed%s: %s of %s",
        f" {task[0]} {plain(task[1])}" if task else "",
        getattr(receiver, "__qualname__", None) or repr(receiver),
        signal,
        exc_info=error,
        extra=extra,
    )


def not_told(claim: Claim) -> None:
    """Say that ``task_lost`` is not sent for a loss."""
    logger.error(
        "not told %s %s: a receiver of task_lost blocks, and too many losses wait for it",
        *(claim.id, plain(claim.processor_class)),
        extra=about(claim, "not told"),
    )


def failed_after_commit(claim: Claim, error: BaseException) -> None:
    """Say that an ``on_commit()`` of an atomic run raised."""
    logger.error(
        "failed after its end %s %s: it is done and committed, but a function that it passed to"
        " on_commit() raised",
        *(claim.id, plain(claim.processor_class)),
        exc_info=error,
        extra=about(claim, "failed after its end"),
    )


def on_commit_failed(call: object, error: BaseException) -> None:
    """Say that a robust ``on_commit()`` raised, in a test."""
    logger.error(
        "error in an on_commit() of a task: %r",
        call,
        exc_info=error,
        extra={"event": "on_commit failed"},
    )


def cache_not_closed(claim: Claim, error: BaseException) -> None:
    """Say that a cache's ``close()`` raised."""
    logger.error(
        "cache not closed %s %s: its close() raised after the run",
        *(claim.id, plain(claim.processor_class)),
        exc_info=error,
        extra=about(claim, "cache not closed"),
    )


def call_failed(thread: str, error: BaseException) -> None:
    """Say that a log handler or a receiver raised in its thread."""
    logger.error(
        "a call in thread %r failed", thread, exc_info=error, extra={"event": "call failed"}
    )


def exit_failed(error: BaseException) -> None:
    """Say that a function of ``atexit`` or the like raised."""
    _in_worker.error(
        "a function that runs at the end of this worker process raised",
        exc_info=error,
        extra={"event": "exit failed"},
    )


def exit_took_too_long() -> None:
    """Say that a worker does not wait any longer for functions of ``atexit`` or the like."""
    _in_worker.warning(
        "this worker process is ended: functions that run at its end took too long",
        extra={"event": "exit took too long"},
    )
