"""Checks of the processors: their modules, names, attributes and ``run()``."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004  Django's name

from partisan_async import naming, registry, schedule, validation
from partisan_async.checks.misnamed import misnamed
from partisan_async.checks.on_error import check_on_error
from partisan_async.checks.own_names import own_names
from partisan_async.checks.uniqueness import contradictions
from partisan_async.config import complaints as of_retries
from partisan_async.config.processor_configs import ErrorsHandleConfig, PostponeConfig
from partisan_async.declared import errors_of, wrong_on_error
from partisan_async.enqueue.parameters.complaints import complaints
from partisan_async.enqueue.parameters.signature import parameters_declared_by, taken_by
from partisan_async.enqueue.subjects import METHOD, wrong_subject
from partisan_async.exceptions import ProcessorClassAlreadyRegistered
from partisan_async.processor import BaseTaskProcessor


def _left_to_its_own_check(value: object) -> None:
    """Complain of nothing: ``check_schedules`` does, name by name."""


ATTRIBUTES: dict[str, Callable[[Any], str | None]] = {
    "PRIORITY": validation.check_priority,
    "QUEUE_NAME": validation.check_queue_name,
    "UNIQUE_FOR_PARAMS": validation.check_flag,
    "UNIQUE": validation.check_unique,
    "TIMEOUT_SECONDS": validation.check_time_limit,
    "LIMIT": validation.check_limit,
    "RETRY_ON_ERROR_CONFIG": validation.check_instances_or_none(ErrorsHandleConfig),
    "POSTPONE_CONFIG": validation.check_instance_or_none(PostponeConfig),
    "STORE_RESULT": validation.check_flag,
    "ATOMIC": validation.check_flag,
    "ON_MISSING": validation.check_choice("error", "finish"),
    "SENSITIVE": validation.check_names,
    "ON_ERROR": wrong_on_error,
    "SCHEDULE": schedule.wrong,
    "SCHEDULES": _left_to_its_own_check,
}

IDS = {"UNIQUE": "partisan_async.E021", "LIMIT": "partisan_async.E032"}
"""Of attributes whose check has an id of its own."""


@register("partisan_async")
def check_processors(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """E003: a processor names its queue by ``QUEUE``. E004: an attribute has a wrong value.
    E005: ``run()`` is missing or of the wrong kind. E006: two processors have the same name.
    E007: a ``partisan_tasks.py``, or a ``tasks.py`` for Django's own tasks, cannot be imported.
    E017: a parameter of ``run()`` is invalid. E018 to E020: a config of retries never applies, has
    a function that cannot be called, or gives up at once. E021: ``UNIQUE`` is invalid. E022: it is
    by what calls do not pass. E023: ``UNIQUE_FOR_PARAMS`` is set where ``UNIQUE`` holds. E027 to
    E029: an ``ON_ERROR`` is not registered, does not take the id of a task, or is in a circle.
    E030: ``task_subject()`` cannot be called. E032: ``LIMIT`` is invalid.
    """
    errors: list[CheckMessage] = []
    try:
        registry.autodiscover()
    except ProcessorClassAlreadyRegistered as error:
        errors.append(
            Error(
                str(error),
                hint="Rename one of the two classes, or give one of them a NAME of its own.",
                id="partisan_async.E006",
            )
        )
    except Exception as error:  # noqa: BLE001  a module may raise anything when it is imported
        errors.append(
            Error(
                f"A module of tasks cannot be imported: {type(error).__name__}: {error}",
                hint=f"{_place(error)} No task can run until that is mended.",
                id="partisan_async.E007",
            )
        )
    for processor in registry.processors():
        errors += (
            _wrong_attributes(processor)
            + _wrong_retries(processor)
            + _wrong_runs(processor)
            + _wrong_parameters(processor)
            + _wrong_on_error(processor)
            + _wrong_subject(processor)
        )
        errors += contradictions(processor)
    return errors


@register("partisan_async")
def check_names(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """W014: an attribute has almost the name of one of ours, or another runner's name for it.
    W017: an attribute has the name of what the base puts on each object.
    """
    processors = known_processors()
    mistaken = {
        (owner, name): ours
        for processor in processors
        for owner, name, ours in misnamed(processor, ATTRIBUTES)
    }
    hidden = {
        (owner, name): ours
        for processor in processors
        for owner, name, ours in own_names(processor)
    }
    return [
        *(
            Warning(
                f"{owner.__name__} sets {name}, which partisan_async does not read.",
                hint=f"Did you mean {ours}? If {name} is your own, rename it, or add"
                " 'partisan_async.W014' to SILENCED_SYSTEM_CHECKS.",
                obj=owner,
                id="partisan_async.W014",
            )
            for (owner, name), ours in mistaken.items()
        ),
        *(
            Warning(
                f"{owner.__name__}.{name} has the name of what each {owner.__name__} has: {ours}.",
                hint="Give it another name.",
                obj=owner,
                id="partisan_async.W017",
            )
            for (owner, name), ours in hidden.items()
        ),
    ]


def known_processors() -> list[type[BaseTaskProcessor]]:
    """Return the processors that can be imported; E006 and E007 tell of errors.

    Each check imports them itself, since the checks of a tag run in no fixed order.
    """
    with suppress(Exception):
        registry.autodiscover()
    return registry.processors()


def _wrong_attributes(processor: type[BaseTaskProcessor]) -> list[CheckMessage]:
    errors: list[CheckMessage] = []
    if hasattr(processor, "QUEUE"):
        errors.append(
            Error(
                f"{processor.__name__} sets QUEUE, which has no effect.",
                hint=f"Rename it: QUEUE_NAME = {processor.QUEUE!r}.",
                obj=processor,
                id="partisan_async.E003",
            )
        )
    errors += [
        Error(
            f"{processor.__name__}.{name} is {getattr(processor, name)!r}.",
            hint=f"It {wrong}.",
            obj=processor,
            id=IDS.get(name, "partisan_async.E004"),
        )
        for name, check in ATTRIBUTES.items()
        if (wrong := check(getattr(processor, name)))
    ]
    return errors


def _wrong_retries(processor: type[BaseTaskProcessor]) -> list[CheckMessage]:
    if ATTRIBUTES["RETRY_ON_ERROR_CONFIG"](processor.RETRY_ON_ERROR_CONFIG):
        return []  # E004 tells it
    configs = errors_of(processor)
    names = ["RETRY_ON_ERROR_CONFIG"]
    if len(configs) > 1:
        names = [f"RETRY_ON_ERROR_CONFIG[{place}]" for place in range(len(configs))]
    return [
        Error(
            f"{processor.__name__}.{names[each.place]} {each.wrong}.",
            hint=each.hint,
            obj=processor,
            id=each.check,
        )
        for each in of_retries.complaints(configs)
    ]


def _wrong_runs(processor: type[BaseTaskProcessor]) -> list[CheckMessage]:
    name = processor.__name__
    if inspect.isabstract(processor):
        missing = ", ".join(f"{each}()" for each in sorted(processor.__abstractmethods__))
        wrong, hint = f"{name} has no {missing}.", "Write it: def run(self): …"
    elif processor.ATOMIC is True and inspect.iscoroutinefunction(processor.run):
        wrong = f"{name} is ATOMIC, and its run() is async: Django has no async transactions."
        hint = "Write it as def run(self), or leave ATOMIC out."
    else:
        return []
    return [Error(wrong, hint=hint, obj=processor, id="partisan_async.E005")]


def _wrong_parameters(processor: type[BaseTaskProcessor]) -> list[CheckMessage]:
    found: list[tuple[str, str]] = [*complaints(processor, BaseTaskProcessor)]
    if parameters_declared_by(processor) is None:
        found += _not_taken(processor)
    return [
        Error(wrong, hint=hint, obj=processor, id="partisan_async.E017") for wrong, hint in found
    ]


def _wrong_on_error(processor: type[BaseTaskProcessor]) -> list[CheckMessage]:
    if wrong_on_error(processor.ON_ERROR):
        return []  # E004 tells it
    return check_on_error(processor)


def _wrong_subject(processor: type[BaseTaskProcessor]) -> list[CheckMessage]:
    if not hasattr(processor, METHOD) or (found := wrong_subject(processor)) is None:
        return []
    return [Error(found.wrong, hint=found.hint, obj=processor, id="partisan_async.E030")]


def _not_taken(processor: type[BaseTaskProcessor]) -> Iterator[tuple[str, str]]:
    """Yield what ``SENSITIVE`` of an untyped processor names, and no call can pass by name."""
    if validation.check_names(processor.SENSITIVE):  # E004 tells: there are no names to look for
        return
    takes = taken_by(processor)
    for name in processor.SENSITIVE:
        try:
            takes.bind_partial(**{name: None})
        except TypeError:
            whose = f"{processor.__name__}.SENSITIVE"
            wrong = f"{whose} names {name!r}, which its __init__() does not take by name."
            yield wrong, f"Name those of {takes}."


def _place(error: Exception) -> str:
    """Say in which file and line an error was raised."""
    # Not in register() itself: what it refuses is above the class.
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in (registry.__file__, naming.__file__)
    ]
    last = frames[-1] if frames else None
    return f"It was raised in {last.filename}, line {last.lineno}." if last else ""
