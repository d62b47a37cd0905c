"""Finds misnamed attributes of processors: typing errors, or another runner's names for ours."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from difflib import get_close_matches

from partisan_async.processor import BaseTaskProcessor

OTHERS_WORDS = {
    "ATTEMPTS": "RETRY_ON_ERROR_CONFIG",
    "AUTORETRY_FOR": "RETRY_ON_ERROR_CONFIG",
    "CONCURRENCY": "LIMIT",
    "CRON": "SCHEDULE",
    "BEAT_SCHEDULE": "SCHEDULES",
    "CRONS": "SCHEDULES",
    "CRONTAB": "SCHEDULE",
    "HARD_TIME_LIMIT": "TIMEOUT_SECONDS",
    "IGNORE_RESULT": "STORE_RESULT",
    "JOB_TIMEOUT": "TIMEOUT_SECONDS",
    "LIMITS_CONCURRENCY": "LIMIT",
    "MAX_ATTEMPTS": "RETRY_ON_ERROR_CONFIG",
    "MAX_CONCURRENCY": "LIMIT",
    "MAX_POSTPONES": "POSTPONE_CONFIG",
    "MAX_RETRIES": "RETRY_ON_ERROR_CONFIG",
    "PERIODIC": "SCHEDULE",
    "POSTPONE": "POSTPONE_CONFIG",
    "QUEUEING_LOCK": "UNIQUE",
    "QUEUES": "QUEUE_NAME",
    "RATE_LIMIT": "LIMIT",
    "RETRIES": "RETRY_ON_ERROR_CONFIG",
    "RETRY": "RETRY_ON_ERROR_CONFIG",
    "RETRY_CONFIG": "RETRY_ON_ERROR_CONFIG",
    "RETRY_FOR": "RETRY_ON_ERROR_CONFIG",
    "RETRY_ON": "RETRY_ON_ERROR_CONFIG",
    "RETRY_ON_ERROR": "RETRY_ON_ERROR_CONFIG",
    "RETRY_ON_ERRORS": "RETRY_ON_ERROR_CONFIG",
    "SOFT_TIME_LIMIT": "TIMEOUT_SECONDS",
    "THROTTLE": "LIMIT",
    "TIMEOUT": "TIMEOUT_SECONDS",
    "TIMEOUT_MS": "TIMEOUT_SECONDS",
    "TIME_LIMIT": "TIMEOUT_SECONDS",
    "UNIQUE_BY": "UNIQUE",
    "UNIQUE_FOR": "UNIQUE_FOR_PARAMS",
    "UNIQUE_KEY": "UNIQUE",
}
"""Names that other task runners, and readers in a hurry, use for our attributes."""

CLOSE = 0.85
"""Similarity, by ``difflib``, from which a name is taken for a typing error of another one."""


def misnamed(
    processor: type[BaseTaskProcessor], known: Collection[str]
) -> Iterator[tuple[type, str, str]]:
    """Yield each misnamed attribute: the class that has it, its name, and the name of ours.

    :param known: the names of our attributes.
    """
    for owner in processor.__mro__:
        if owner in BaseTaskProcessor.__mro__:
            continue
        for name in vars(owner):
            if name.isupper() and (ours := _meant(name, known)):
                yield owner, name, ours


def _meant(name: str, known: Collection[str]) -> str | None:
    if name in known:
        return None
    if name in OTHERS_WORDS:
        return OTHERS_WORDS[name]
    for close in get_close_matches(name, known, n=1, cutoff=CLOSE):
        # A name that contains one of ours, such as HTTP_TIMEOUT_SECONDS, is the project's own.
        return None if f"_{close}_" in f"_{name}_" else close
    return None
