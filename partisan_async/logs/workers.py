"""Lines about worker processes, by their supervisor or by themselves."""

from __future__ import annotations

import logging

logger = logging.getLogger("partisan_async")

_in_worker = logging.getLogger("partisan_async.worker")


def start_again(error: BaseException) -> None:
    """Say that a worker could not be started, and that another one is tried."""
    logger.warning("%s Trying again.", error, extra={"event": "worker not started"})


def warned(message: str) -> None:
    """Say what is unusual about how workers are started."""
    logger.warning(message, extra={"event": "workers"})


def link_garbled(pid: int | None) -> None:
    """Say that a worker is killed because a task wrote where only the worker may write."""
    logger.error(
        "worker process %s is killed: a task wrote to the file descriptor of its link",
        pid,
        extra={"event": "link garbled"},
    )


def loop_interrupted(error: BaseException) -> None:
    """Say that a ``SystemExit`` or the like passed through the event loop."""
    _in_worker.error(
        "the event loop of async tasks was interrupted; it goes on",
        exc_info=error,
        extra={"event": "loop interrupted"},
    )


def inside_gone(name: str, instead: str) -> None:
    """Say that something undocumented that workers use is gone; ``instead``: what they do now."""
    _in_worker.warning(
        "%s is missing, or not as workers know it: %s",
        *(name, instead),
        extra={"event": "inside gone"},
    )
