"""The processors this process knows, by their bare class names."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from django.utils.module_loading import autodiscover_modules

from partisan_async.exceptions import ProcessorClassAlreadyRegistered, ProcessorClassNotFound

if TYPE_CHECKING:
    from partisan_async.processor import BaseTaskProcessor

P = TypeVar("P", bound="type[BaseTaskProcessor]")

TASKS_MODULE_NAME = "partisan_tasks"

DJANGO_TASKS_MODULE_NAME = "tasks"
"""Where Django's own tasks are, by its convention."""

_processors: dict[str, type[BaseTaskProcessor]] = {}


def register(processor_class: P) -> P:
    """Make a processor known under its class name; use it as a decorator.

    :raises ProcessorClassAlreadyRegistered: another class has this name.
    """
    name = processor_class.__name__
    known = _processors.setdefault(name, processor_class)
    if known is not processor_class:
        raise ProcessorClassAlreadyRegistered(name, _path(known), _path(processor_class))
    return processor_class


def get(name: str) -> type[BaseTaskProcessor]:
    """Return the processor class registered under this name.

    A dotted name is that of one of Django's own tasks, in a module that is imported.

    :raises ProcessorClassNotFound: there is none. Nothing is imported to look for one: the name may
        come from a row of the database.
    """
    try:
        return _processors[name]
    except KeyError:
        if "." not in name:
            raise ProcessorClassNotFound(name) from None
    try:
        from partisan_async.django_task import processor_of
    except ImportError:  # neither Django 6 nor the backport
        raise ProcessorClassNotFound(name) from None
    return processor_of(name)


def processors() -> list[type[BaseTaskProcessor]]:
    """Return all registered processor classes, by name."""
    return [_processors[name] for name in sorted(_processors)]


def autodiscover() -> None:
    """Import ``partisan_tasks.py`` of every installed app that has one; its errors are raised.

    Where TASKS names ``PartisanBackend``, every ``tasks.py``, too.
    """
    names = [TASKS_MODULE_NAME]
    if _serves_django_tasks():
        names.append(DJANGO_TASKS_MODULE_NAME)
    autodiscover_modules(*names)


def _serves_django_tasks() -> bool:
    try:
        from partisan_async.tasks_backend import is_configured
    except ImportError:  # neither Django 6 nor the backport
        return False
    return is_configured()


def _path(processor_class: type) -> str:
    return f"{processor_class.__module__}.{processor_class.__qualname__}"
