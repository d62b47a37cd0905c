"""Reads what a processor's class declares about its runs, for every process.

Whether runs are async, how long each may take, and the rules by which they end.
"""

from __future__ import annotations

import inspect
import math
from contextlib import suppress
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from partisan_async import registry
from partisan_async.config.processor_configs import ErrorsHandleConfig
from partisan_async.enqueue import limits
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.limits import Limit
from partisan_async.naming import name_of
from partisan_async.policy import Rules
from partisan_async.settings import QueueSettings

if TYPE_CHECKING:
    from partisan_async.processor import BaseTaskProcessor


@cache
def is_async(processor_class: type[BaseTaskProcessor]) -> bool:
    """Tell whether ``run()`` is ``async def``."""
    return inspect.iscoroutinefunction(processor_class.run)


def time_limit(processor_class: type[BaseTaskProcessor], default: float | None) -> float | None:
    """Return the time limit of ``run()`` in seconds; ``None``: no limit.

    :param default: the queue's, for processors without one of their own.
    """
    own = processor_class.TIMEOUT_SECONDS
    limit = default if own is None else own
    return None if limit is None or math.isinf(limit) else limit


def errors_of(processor_class: type[BaseTaskProcessor]) -> tuple[ErrorsHandleConfig, ...]:
    """Return the configs of a processor's retries; the first that fits an error holds."""
    declared = processor_class.RETRY_ON_ERROR_CONFIG
    if declared is None:
        return ()
    return (declared,) if isinstance(declared, ErrorsHandleConfig) else tuple(declared)


def wrong_on_error(value: Any) -> str | None:
    """Return the complaint about a value that must be an ``ON_ERROR``, or ``None``."""
    if value is None or registry.is_processor(value):
        return None
    return "must be a processor class, the class itself, or None"


def on_error_of(processor_class: type[BaseTaskProcessor]) -> type[BaseTaskProcessor] | None:
    """Return the processor of which a call is enqueued when a task of this one ends in ``error``.

    ``None``: there is none; or this one is called so itself, by those of its own tasks that fail:
    such a circle would have no end.

    :raises TypeError: it is no processor class.
    :raises ProcessorClassNotFound: it is one of Django's own tasks, and not to be found.
    """
    told = _told_by(processor_class)
    met: list[type] = []
    after: type[BaseTaskProcessor] | None = told
    while after is not None and after not in met:
        if after is processor_class:
            return None
        met.append(after)
        after = _told_by(after)
    return told


def _told_by(processor_class: type[BaseTaskProcessor]) -> type[BaseTaskProcessor] | None:
    declared: Any = processor_class.ON_ERROR
    if hasattr(declared, "module_path"):  # one of Django's own tasks
        declared = registry.get(declared.module_path)
    if wrong := wrong_on_error(declared):
        raise TypeError(f"{processor_class.__name__}.ON_ERROR is {declared!r}; it {wrong}.")
    told: type[BaseTaskProcessor] | None = declared
    return told


def limit_of(processor_class: type[BaseTaskProcessor]) -> tuple[str, Limit] | None:
    """Return the limit that tasks of a processor start under, and its name before it; or ``None``.

    It is as the code says it, be it valid or not: the system checks tell.
    """
    limit: Any = processor_class.LIMIT
    if not isinstance(limit, Limit):
        return None
    return limits.name_of(limit, registry.lasting_name(name_of(processor_class))), limit


def rules_of(processor_name: str, settings: QueueSettings) -> Rules:
    """Return the rules of a processor and its queue about retries, postpones and results.

    :param processor_name: if it is not registered here, the queue's rules hold.
    """
    errors: tuple[ErrorsHandleConfig, ...] = ()
    stores_result = False
    max_postpones = settings.DEFAULT_POSTPONES_COUNT
    with suppress(ProcessorClassNotFound):
        processor_class = registry.get(processor_name)
        errors = errors_of(processor_class)
        stores_result = processor_class.STORE_RESULT
        if processor_class.POSTPONE_CONFIG is not None:
            max_postpones = processor_class.POSTPONE_CONFIG.max_postpones
    return Rules(
        errors=errors,
        max_postpones=max_postpones,
        postpone_delay=timedelta(seconds=settings.DEFAULT_POSTPONE_DELAY_SECONDS),
        stores_result=stores_result,
    )
