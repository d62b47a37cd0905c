"""Log lines about worker processes."""

from __future__ import annotations

import logging

logger = logging.getLogger("partisan_async")


def not_started(error: Exception) -> None:
    """Say that a worker process could not be started, and is tried again."""
    logger.warning("%s Trying again.", error, extra={"event": "Trying again"})


def garbled(pid: int | None) -> None:
    """Say that a task wrote to its worker's link."""
    logger.error(
        "worker process %s is killed: a task wrote to its link",
        pid,
        extra={"event": "worker process is killed"},
    )


def lacking(message: str) -> None:
    """Say what workers lack, or share less than they could."""
    logger.warning(message, extra={"event": "workers"})
