"""The processors that this process knows, by their bare class names.

This module imports no processor and no base class, so every module that looks processors up by name
can import it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, TypeVar

from django.utils.module_loading import autodiscover_modules

from partisan_async.exceptions import ProcessorClassAlreadyRegistered, ProcessorClassNotFound

P = TypeVar("P", bound=type[Any])

TASKS_MODULE_NAME = "partisan_tasks"

BASE = "partisan_async.processor.BaseTaskProcessor"
"""The base class of processors, by its name: its module imports this one."""

_processors: dict[str, type[Any]] = {}


def register(processor_class: P) -> P:
    """Make a processor known under its class name; use it as a decorator.

    :raises ProcessorClassAlreadyRegistered: another class has this name.
    :raises TypeError: the argument is not a processor class.
    """
    if not _is_processor(processor_class):
        raise TypeError(_no_processor(processor_class))
    name = processor_class.__name__
    known = _processors.setdefault(name, processor_class)
    if known is not processor_class:
        raise ProcessorClassAlreadyRegistered(name, _path(known), _path(processor_class))
    return processor_class


def get(name: str) -> Any:
    """Return the processor class registered under this name.

    A dotted name is that of one of Django's own tasks, in a module that is imported already.

    :raises ProcessorClassNotFound: there is no such class. The lookup imports nothing: the name may
        come from a row of the database.
    """
    try:
        return _processors[name]
    except KeyError:
        if "." not in name or (bridge := _bridge()) is None:
            raise ProcessorClassNotFound(name) from None
    return bridge.processor_of(name)


def processors() -> list[Any]:
    """Return all registered processor classes, by name."""
    return [_processors[name] for name in sorted(_processors)]


def autodiscover() -> None:
    """Import ``partisan_tasks.py`` of every installed app that has one; raises what that raises.

    If TASKS names ``PartisanBackend``, import every ``tasks.py``, too.
    """
    bridge = _bridge()
    autodiscover_modules(TASKS_MODULE_NAME, *(() if bridge is None else bridge.module_names()))


class Bridge(NamedTuple):
    """Finds the processors of tasks with dotted names: Django's own.

    :param processor_of: returns the processor of a name, or raises ``ProcessorClassNotFound``.
    :param module_names: returns the names of the modules to import in every installed app.
    """

    processor_of: Callable[[str], type[Any]]
    module_names: Callable[[], list[str]]


def connect(load: Callable[[], Bridge | None]) -> None:
    """Set what loads the bridge when it is first needed; ``load`` may find none: ``None``."""
    global _bridge
    _bridge = cache(load)


def _no_bridge() -> None:
    return None


_bridge: Callable[[], Bridge | None] = _no_bridge


def _is_processor(found: object) -> bool:
    return isinstance(found, type) and BASE in map(_path, found.__mro__)


def _no_processor(found: Any) -> str:
    base = f"a subclass of {BASE} with a run() of its own"
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


def _path(processor_class: type) -> str:
    return f"{processor_class.__module__}.{processor_class.__qualname__}"
