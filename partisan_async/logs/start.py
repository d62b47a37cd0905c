"""Lines that ``start_partisan`` says before its supervisor starts."""

from __future__ import annotations

import logging
from collections.abc import Iterable

logger = logging.getLogger("partisan_async")


def health(address: str, port: int) -> None:
    """Say at which address the health port answers."""
    logger.info(
        "health: http://%s:%d has /live, /ready and /metrics",
        *(address, port),
        extra={"event": "health"},
    )


def rights_missing(role: str, grants: Iterable[str]) -> None:
    """Say which rights the role lacks that claims and settles do not need."""
    logger.warning(
        "rights are missing: role %r skips what it may not do; as the tables' owner, run: %s",
        *(role, " ".join(grants)),
        extra={"event": "rights missing"},
    )


def not_at_home(odd: str) -> None:
    """Say that this is another database than when a supervisor first ran."""
    logger.warning("not at home: %s", odd, extra={"event": "not at home"})


def unknown_queue(queue_name: str, used: Iterable[str]) -> None:
    """Say that nobody seems to enqueue anything in this queue."""
    logger.warning(
        "no processor names queue %r, and PARTISAN_CONFIG has no such key; queues in use: %s",
        *(queue_name, ", ".join(sorted(used)) or "none"),
        extra={"event": "unknown queue"},
    )


def too_many_connections(workers: int, own: int, allowed: int) -> None:
    """Say that the server may refuse some of the connections.

    :param workers: number of connections of all workers.
    :param own: number of connections of the process itself.
    """
    logger.warning(
        "up to %d connections may be opened (%d by workers, %d by the supervisors), and the"
        " server's max_connections is %d for all its clients; lower the first, by WORKERS_COUNT or"
        " ASYNC_CONCURRENCY, or raise the second",
        *(workers + own, workers, own, allowed),
        extra={"event": "too many connections"},
    )
