"""Finds what is wrong with the parameters of a processor, before any call is made."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import NamedTuple

from partisan_async.enqueue.parameters.annotations import UnresolvedError, place_of, resolve
from partisan_async.enqueue.parameters.signature import Declared, parameters_declared_by, shown
from partisan_async.validation import check_names

_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Complaint(NamedTuple):
    """What is wrong, and the way out, as sentences."""

    wrong: str
    hint: str


def complaints(processor_class: type, base: type) -> list[Complaint]:
    """Return what is wrong with the parameters of ``run()``; nothing if it has none.

    :param base: the class whose ``__init__`` the processor should inherit.
    """
    declared = parameters_declared_by(processor_class)
    if declared is None:
        return []
    found = []
    name = processor_class.__name__
    if getattr(processor_class, "__init__") is not getattr(base, "__init__"):  # noqa: B009
        found.append(
            Complaint(
                f"{name} has an __init__() of its own, and its run() has parameters.",
                "Leave out __init__(): a call is checked against run(), which gets its values.",
            )
        )
    found += _unschedulable(processor_class, declared)
    found += _no_parameters(processor_class, declared)
    for each in declared:
        found += _wrong_annotation(processor_class, each)
    return found


def _unschedulable(processor_class: type, declared: Declared) -> list[Complaint]:
    needed = [e.name for e in declared if e.default is e.empty and e.kind not in _VARIABLE]
    schedule = getattr(processor_class, "SCHEDULE", None)
    # What one has is held against the parameters as a call is, by a check of its own.
    if schedule is None or getattr(schedule, "kwargs", None) or not needed:
        return []
    return [
        Complaint(
            f"{processor_class.__name__} has a SCHEDULE, which calls it without arguments, and its"
            f" run() needs {needed[0]}.",
            f"Give {needed[0]} a default, or the schedule kwargs.",
        )
    ]


def _no_parameters(processor_class: type, declared: Declared) -> Iterator[Complaint]:
    names, sensitive = {each.name for each in declared}, getattr(processor_class, "SENSITIVE", ())
    if check_names(sensitive):  # another check tells: there are no names to look for
        return
    for name in sensitive:
        if name not in names and not any(each.kind is each.VAR_KEYWORD for each in declared):
            wrong = f"{processor_class.__name__}.SENSITIVE names {name!r}, which is no parameter."
            yield Complaint(wrong, f"Name those of {shown(declared)}.")


def _wrong_annotation(processor_class: type, parameter: inspect.Parameter) -> list[Complaint]:
    # Imported here, so that a project without such parameters does not load msgspec.
    from partisan_async.enqueue.parameters.storable import Wrong, wrong_type

    wrong: Wrong | UnresolvedError | None
    try:
        wrong = wrong_type(resolve(processor_class, parameter))
    except UnresolvedError as error:
        wrong = error
    if wrong is None:
        return []
    place = place_of(processor_class, parameter.name)
    return [Complaint(f"{place} {wrong.why}.", f"{wrong.way_out}.")]
