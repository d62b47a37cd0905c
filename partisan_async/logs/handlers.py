"""Where the package's lines go: a handler where the project has none, and lines that were lost."""

from __future__ import annotations

import logging

logger = logging.getLogger("partisan_async")


def attach() -> None:
    """Have the package's lines printed where nobody configured logging for them.

    Django's default configuration prints no INFO of other packages.
    """
    if logger.hasHandlers():
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def dropped(count: int) -> None:
    """Say that lines were lost, as a handler was too slow."""
    logger.warning(
        "%d log lines were dropped: a handler, or who reads the log, was stuck or too slow",
        count,
        extra={"event": "log lines dropped", "dropped": count},
    )
