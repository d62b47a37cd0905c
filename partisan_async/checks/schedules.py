"""Checks of the schedules in the code: their names, their times, and what they call with."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, register

from partisan_async import naming, registry, schedule
from partisan_async.checks.processors import known_processors
from partisan_async.enqueue import limits
from partisan_async.enqueue.parameters.complaints import complaints
from partisan_async.enqueue.parameters.signature import taken_by
from partisan_async.enqueue.scheduled import called_by, schedules_of, wrong_schedules
from partisan_async.enqueue.subjects import METHOD, wrong_subject
from partisan_async.processor import BaseTaskProcessor

Faults = Iterator[tuple[str, str]]
"""What is wrong, and the way out, as sentences."""


@register("partisan_async")
def check_schedules(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """E024: ``SCHEDULES`` cannot be. E025: ``run()`` does not take what a schedule calls it with.
    E026: two schedules have the same key. E031: a function with schedules is no task of Django's.
    """
    errors: list[CheckMessage] = []
    owners: dict[str, type] = {}
    for processor in (*known_processors(), *registry.tasks_with_options()):
        wrong = [*_wrong_schedules(processor)]
        errors += (_error("partisan_async.E024", *fault, processor) for fault in wrong)
        if wrong or schedule.wrong(processor.SCHEDULE):  # E004 tells of that
            continue
        errors += (
            _error("partisan_async.E025", *fault, processor) for fault in _wrong_calls(processor)
        )
        errors += (
            _error("partisan_async.E026", *fault, processor) for fault in _taken(processor, owners)
        )
    errors += (_error("partisan_async.E031", *_stray(name)) for name in registry.stray_functions())
    return errors


def _error(number: str, wrong: str, hint: str, obj: object = None) -> Error:
    return Error(wrong, hint=hint, obj=obj, id=number)


def _stray(name: str) -> tuple[str, str]:
    wrong = f"@options gives {name} schedules, and its module has no task of this name: it never"
    return f"{wrong} ticks.", "Put @task above @options, and do not rename the result."


def _wrong_schedules(processor: type[BaseTaskProcessor]) -> Faults:
    lasting = registry.lasting_name(naming.name_of(processor))
    return wrong_schedules(processor.SCHEDULES, lasting, f"{processor.__name__}.SCHEDULES")


def _wrong_calls(processor: type[BaseTaskProcessor]) -> Faults:
    if inspect.isabstract(processor) or complaints(processor, BaseTaskProcessor):
        return  # E005 and E017 tell of that
    if hasattr(processor, METHOD) and wrong_subject(processor):
        return  # E030 does
    if limits.wrong_limit(processor):
        return  # E032, E033, E035 or E037 does
    for key, each in schedules_of(processor).items():
        place = f"The schedule {key!r} calls {processor.__name__} with kwargs={each.kwargs!r}"
        try:
            called_by(processor, each)
            if processor.__init__ is not BaseTaskProcessor.__init__:
                taken_by(processor).bind(**each.kwargs)
        except (TypeError, ValueError) as error:
            yield f"{place}: {error}", f"Give the schedule kwargs that {_takers(processor)}."


def _takers(processor: type[BaseTaskProcessor]) -> str:
    """Say what is called with the kwargs of a schedule."""
    asked = [f"{METHOD}()"] if hasattr(processor, METHOD) else []
    if processor.LIMIT is not None and hasattr(processor, limits.METHOD):
        asked.append(f"{limits.METHOD}()")
    if not asked:
        return "run() takes"
    return f"{', '.join(['run()', *asked[:-1]])} and {asked[-1]} take"


def _taken(processor: type[BaseTaskProcessor], owners: dict[str, type]) -> Faults:
    for key in schedules_of(processor):
        owner = owners.setdefault(key, processor)
        if owner is not processor:
            others = naming.name_of(owner)
            yield (
                f"The schedule {key!r} of {processor.__name__} has the name of one of {others}.",
                "Rename one of the two processors, or the schedule.",
            )
        elif key.startswith(":"):
            yield (
                f"The schedule {key!r} of {processor.__name__} has a name of one made at run time.",
                "Give the processor a NAME without a colon in front.",
            )
