"""Lines about worker processes, by their supervisor or by themselves."""

from __future__ import annotations

import logging

logger = logging.getLogger("partisan_async")

_in_worker = logging.getLogger("partisan_async.worker")


def start_again(error: BaseException) -> None:
    """Say that a worker could not be started, and that another one is."""
    logger.warning("%s Trying again.", error, extra={"event": "worker not started"})


def warned(message: str) -> None:
    """Say what is odd about how workers are made."""
    logger.warning(message, extra={"event": "workers"})


def link_garbled(pid: int | None) -> None:
    """Say that a worker is killed because a task wrote where only the worker may write."""
    logger.error(
        "worker process %s is killed: a task wrote to its link",
        pid,
        extra={"event": "link garbled"},
    )


def loop_interrupted(error: BaseException) -> None:
    """Say that a ``SystemExit`` or the like went through the event loop."""
    _in_worker.error(
        "the event loop of async tasks was interrupted; it goes on",
        exc_info=error,
        extra={"event": "loop interrupted"},
    )


def inside_gone(name: str, instead: str) -> None:
    """Say that something undocumented is gone which workers use; ``instead``: what follows."""
    _in_worker.warning(
        "this version has no %s that workers know: %s",
        *(name, instead),
        extra={"event": "inside gone"},
    )
