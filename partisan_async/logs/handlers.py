"""Adds a handler if the project has none, and says how many lines a slow handler cost."""

from __future__ import annotations

import logging

logger = logging.getLogger("partisan_async")


def attach() -> None:
    """Print the package's lines if nobody configured logging for them.

    Django's default configuration prints no INFO lines of other packages.
    """
    if logger.hasHandlers():
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def dropped(count: int) -> None:
    """Say that lines were dropped because a handler was too slow."""
    logger.warning(
        "%d log lines were dropped: a handler, or the reader of the log, was stuck or too slow",
        count,
        extra={"event": "log lines dropped", "dropped": count},
    )
