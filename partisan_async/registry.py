"""The processors that this process knows, by their names on rows: see ``naming``.

This module imports no processor and no base class, so every module that looks processors up by name
can import it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from django.utils.module_loading import autodiscover_modules

from partisan_async.exceptions import ProcessorClassAlreadyRegistered, ProcessorClassNotFound
from partisan_async.naming import checked_names, name_of, names_of

P = TypeVar("P", bound=type[Any])

TASKS_MODULE_NAME = "partisan_tasks"

BASE = "partisan_async.processor.BaseTaskProcessor"
"""The base class of processors, by its name: its module imports this one."""

_processors: dict[str, type[Any]] = {}


def register(processor_class: P) -> P:
    """Make a processor known under its names; use it as a decorator.

    :raises ProcessorClassAlreadyRegistered: another class has one of these names.
    :raises TypeError: the argument is not a processor class, or its ``NAME`` or ``ALSO_KNOWN_AS``
        has a wrong type.
    :raises ValueError: one of these is no text that can be a name.
    """
    if not is_processor(processor_class):
        raise TypeError(_no_processor(processor_class))
    names = checked_names(processor_class)
    for name in names:
        known = _processors.get(name, processor_class)
        if known is not processor_class and not _is_left_over(known, processor_class):
            raise ProcessorClassAlreadyRegistered(name, _path(known), _path(processor_class))
    _processors.update(dict.fromkeys(names, processor_class))
    return processor_class


def get(name: str) -> Any:
    """Return the processor class registered under this name, or that had it before.

    A dotted name may also be that of one of Django's own tasks, in a module that is imported
    already.

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
    return sorted(set(_processors.values()), key=name_of)


def tasks_with_options() -> list[Any]:
    """Return the processors of those of Django's own tasks that have options, by name."""
    bridge = _bridge()
    return [] if bridge is None else bridge.with_options()


def tasks() -> list[Any]:
    """Return the processors of all of Django's own tasks in the modules that are imported."""
    bridge = _bridge()
    return [] if bridge is None else bridge.known()


def processors_and_tasks() -> list[Any]:
    """Return the registered processors, and those of Django's own tasks that have options."""
    return [*processors(), *tasks_with_options()]


def stray_functions() -> list[str]:
    """Return the dotted names of functions that have schedules and are no task of Django's."""
    bridge = _bridge()
    return [] if bridge is None else bridge.strays()


def is_processor(found: object) -> bool:
    """Tell whether this is a processor class; whether it is registered does not matter."""
    return isinstance(found, type) and BASE in map(_path, found.__mro__)


def names_for_calls(processor_class: type[Any]) -> tuple[str, str]:
    """Return the name that the rows of a processor's calls get, and its lasting one.

    :raises ProcessorClassNotFound: it is not registered.
    """
    # In one frame: each delay() asks.
    own = processor_class.__dict__
    name = own.get("NAME") or processor_class.__name__
    if _processors.get(name) is not processor_class:
        raise ProcessorClassNotFound(name)
    before = own.get("ALSO_KNOWN_AS")
    return name, before[0] if before else name


def names(name: str) -> tuple[str, ...]:
    """Return all names of the processor that has this one, or had it: that of new rows first.

    Of a processor that is not registered it is this one alone.
    """
    known = _processors.get(name)
    return (name,) if known is None else names_of(known)


def discovered_names(name: str) -> tuple[str, ...]:
    """As ``names``, for a process that may not know all processors yet."""
    with suppress(Exception):  # the checks tell of a module that cannot be imported
        autodiscover()
    return names(name)


def lasting_name(name: str) -> str:
    """Return the name by which a processor is known across its names: the first that it had.

    Calls are identical by it, and its schedule's row has it: so both outlive a new name, also
    while code with the old one runs beside.
    """
    now, *before = names(name)
    return before[0] if before else now


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
    :param with_options: returns the processors of those that have options.
    :param known: returns the processors of all that are in the imported modules.
    :param strays: returns the names of functions that have schedules and are no tasks.
    """

    processor_of: Callable[[str], type[Any]]
    module_names: Callable[[], list[str]]
    with_options: Callable[[], list[type[Any]]]
    known: Callable[[], list[type[Any]]]
    strays: Callable[[], list[str]]


def connect(load: Callable[[], Bridge | None]) -> None:
    """Set what loads the bridge; it is asked whenever one is needed, and may have none."""
    global _bridge
    _bridge = load


def _no_bridge() -> None:
    return None


_bridge: Callable[[], Bridge | None] = _no_bridge


def _no_processor(found: Any) -> str:
    base = f"a subclass of {BASE} with a run() of its own"
    if isinstance(found, type):
        return f"@registry.register: {found.__name__} is no processor; make it {base}."
    if callable(found) and hasattr(found, "__name__"):
        return (
            f"@registry.register belongs above a class, and {found.__name__} is a function: write"
            f" {base}. For functions there is @task of Django's own tasks."
        )
    if is_processor(type(found)):
        return f"@registry.register: pass the class {type(found).__name__}, not an object of it."
    return f"@registry.register takes nothing but {base}, and got {found!r}: write it without ()."


def _is_left_over(known: type, again: type) -> bool:
    """Tell whether a class is of an import that failed below it, and is now imported once more.

    Refused, it would hide what is wrong with its module from whoever comes second.
    """
    module = sys.modules.get(known.__module__)
    name = known.__qualname__
    return _path(known) == _path(again) and name.isidentifier() and not hasattr(module, name)


def _path(processor_class: type) -> str:
    return f"{processor_class.__module__}.{processor_class.__qualname__}"
