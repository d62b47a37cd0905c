"""The processors this process knows, by their bare class names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

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
    :raises TypeError: it is no processor class.
    """
    if not _is_processor(processor_class):
        raise TypeError(_no_processor(processor_class))
    name = processor_class.__name__
    known = _processors.setdefault(name, processor_class)
    if known is not processor_class:
        raise ProcessorClassAlreadyRegistered(name, _path(known), _path(processor_class))
    return processor_class


def _is_processor(found: object) -> bool:
    from partisan_async.processor import BaseTaskProcessor  # it imports this module

    return isinstance(found, type) and issubclass(found, BaseTaskProcessor)


def _no_processor(found: Any) -> str:
    base = "a subclass of partisan_async.processor.BaseTaskProcessor with a run() of its own"
    if isinstance(found, type):
        return f"@registry.register: {found.__name__} is no processor; make it {base}."
    if callable(found) and hasattr(found, "__name__"):
        return (
            f"@registry.register belongs above a class, and {found.__name__} is a function: write"
            f" {base}. For functions there is @task of Django's own tasks."
        )
    if _is_processor(type(found)):
        return f"@registry.register: pass the class {type(found).__name__}, not an object of it."
    return f"@registry.register takes nothing but {base}, and got {found!r}: write it without ()."


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
        from partisan_async.django_tasks.django_task import processor_of
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
