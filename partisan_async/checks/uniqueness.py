"""Finds what ``UNIQUE`` contradicts: the parameters of ``run()``, or ``UNIQUE_FOR_PARAMS``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error

from partisan_async.enqueue.keys import wrong_by
from partisan_async.processor import BaseTaskProcessor
from partisan_async.validation import check_unique


def contradictions(processor: type[BaseTaskProcessor]) -> list[CheckMessage]:
    """Return the errors of one processor: E022 and E023."""
    rule = processor.UNIQUE
    if rule is None or check_unique(rule):
        return []
    errors: list[CheckMessage] = list(_said_twice(processor))
    if rule.by is not None and (found := wrong_by(processor, tuple(rule.by))):
        errors.append(Error(found.wrong, hint=found.hint, obj=processor, id="partisan_async.E022"))
    return errors


def _said_twice(processor: type[Any]) -> Iterator[CheckMessage]:
    """Find a ``UNIQUE_FOR_PARAMS`` that somebody set in the belief that it holds."""
    for owner in processor.__mro__:
        if "UNIQUE_FOR_PARAMS" in vars(owner):
            yield Error(
                f"{owner.__name__}.UNIQUE_FOR_PARAMS does nothing where UNIQUE is set.",
                hint="Leave it out; or, if it is to hold, write UNIQUE = None beside it.",
                obj=processor,
                id="partisan_async.E023",
            )
        if "UNIQUE" in vars(owner) or "UNIQUE_FOR_PARAMS" in vars(owner):
            return
