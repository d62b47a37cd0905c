"""Lines of ``start_partisan --reload``: what its parent process sees and does."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from partisan_async.text.one_line import explain

logger = logging.getLogger("partisan_async")


def changed(files: Sequence[str]) -> None:
    """Say which files have changed."""
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    logger.info("a change in %s%s: starting anew", files[0], more, extra={"event": "code changed"})


def waiting_for_a_change() -> None:
    """Say that nothing starts before the code changes; what is wrong was printed before."""
    logger.error(
        "waiting for a change in the code: the supervisor could not start, as said above",
        extra={"event": "waiting for a change"},
    )


def starting_anew(how: str, pause_seconds: float) -> None:
    """Say that a supervisor ended that was not told to.

    :param how: how it ended.
    """
    logger.error(
        "starting anew in %g s: the supervisor %s",
        *(pause_seconds, how),
        extra={"event": "starting anew"},
    )


def killed(seconds: float) -> None:
    """Say that a supervisor did not end in time after a change."""
    logger.error(
        "killing the supervisor: it was told to end %g s ago",
        seconds,
        extra={"event": "killing the supervisor"},
    )


def djangos_reloader_gone(instead: str, error: BaseException) -> None:
    """Say that this release of Django has another reloader.

    :param instead: what is so without it.
    """
    logger.warning(
        "django.utils.autoreload is not as partisan_async knows it: %s: %s",
        *(instead, explain(error)),
        extra={"event": "reloader not known"},
    )
