"""Lines about schedules: what ticks enqueue, and which ticks came late or not at all."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from partisan_async.text.one_line import explain
from partisan_async.text.printable import plain

logger = logging.getLogger("partisan_async")


def ticked(
    processor_class: str, ticks: Sequence[datetime], ids: Sequence[int], *, skips: bool = False
) -> None:
    """Say what ticks enqueued; ``ids``: empty if an identical call waits, or runs.

    :param processor_class: the schedule's key.
    :param skips: whether one that runs keeps a tick from enqueuing any.
    """
    name = plain(processor_class)
    extra = {"event": "ticked", "task_ids": list(ids), "processor_class": processor_class}
    if not ids:
        logger.info(
            "not ticked: %s, tick of %s; an identical task still %s",
            *(name, ticks[0], "waits or runs" if skips else "waits"),
            extra=extra,
        )
    elif len(ids) == 1:
        logger.info("ticked %s %s, tick of %s", ids[0], name, ticks[0], extra=extra)
    else:
        logger.warning(
            "caught up with %d ticks of %s, from %s to %s",
            *(len(ids), name, ticks[0], ticks[-1]),
            extra=extra,
        )


def missed(processor_class: str, tick: datetime, following: datetime) -> None:
    """Say that one task stands for several ticks."""
    logger.warning(
        "missed ticks of %s: its task of %s stands for all ticks before %s",
        *(plain(processor_class), tick, following),
        extra={"event": "missed", "processor_class": processor_class},
    )


def moved_up(processor_class: str, found: datetime, own: datetime) -> None:
    """Say that a tick comes earlier, since it was computed by a clock that was ahead."""
    logger.warning(
        "moved up the tick of %s from %s to %s: the database's clock was ahead when the tick was"
        " computed",
        *(plain(processor_class), found, own),
        extra={"event": "moved up", "processor_class": processor_class},
    )


def ticks_not_sought(error: BaseException) -> None:
    """Say that the look for due ticks failed."""
    logger.warning(
        "looking for ticks failed, trying again: %s",
        explain(error),
        extra={"event": "ticks not sought"},
    )


def cannot_tick(key: str, error: BaseException) -> None:
    """Say that a schedule made at run time cannot tick here."""
    logger.warning(
        "not ticked here: schedule %s: %s",
        *(plain(key), explain(error)),
        extra={"event": "cannot tick"},
    )


def not_noted(error: BaseException) -> None:
    """Say that successes of schedules could not be noted."""
    logger.warning(
        "noting successes of schedules failed: %s",
        explain(error),
        extra={"event": "not noted"},
    )
