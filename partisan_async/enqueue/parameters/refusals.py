"""The errors about a value that cannot be stored: where it is, what it is, what to pass."""

from __future__ import annotations

import datetime
import re
from typing import Any

from partisan_async.enqueue.parameters.came_back import (
    LOST,
    Difference,
    naive_where_aware_is_needed,
    type_of,
)
from partisan_async.enqueue.parameters.instead import instead, members, shown

_PATH = re.compile(r"- at `(?:key in )?\$(.*)`$|- at `key` in `\$(.*)`$")


def wrong_type(value: Any, place: str, hint: Any) -> TypeError:
    """Return the error about a value that is not of its parameter's type.

    The message leaves the value out: it may be a secret, and errors are stored and sent on.
    """
    kind, taken = type_of(value).__name__, shown(hint)
    if kind in [shown(each) for each in members(hint)]:
        return TypeError(f"{place} is a {kind} that would not come back the same; {_odd(value)}.")
    return TypeError(f"{place} is of type {kind}, and run() takes {taken}; {instead(value, hint)}.")


def not_within(place: str, hint: Any, error: Exception) -> TypeError:
    """Return the error about a value with a part that does not fit the annotation."""
    where = place_in(place, error)
    return TypeError(f"{where} is not what run() takes, {shown(hint)}; pass what it names there.")


def changed(found: Difference, hint: Any, place: str) -> TypeError | ValueError:
    """Return the error about a value that would be read back as another."""
    passed = found.passed
    if naive_where_aware_is_needed(passed):
        return ValueError(
            f"{found.place} is a naive datetime, and USE_TZ is on; pass timezone.now(), or"
            " timezone.make_aware(value)."
        )
    if found.place == place:
        return wrong_type(passed, place, hint)
    if found.back is LOST:
        return ValueError(
            f"{found.place} is no field of its class, and would be lost; make it one, with an"
            " annotation."
        )
    kind, back = type_of(passed), type_of(found.back)
    if kind is back or found.back is None:
        return ValueError(f"{found.place} would not come back the same; {_odd(passed)}.")
    return TypeError(
        f"{found.place} is of type {kind.__name__}, and would come back as {back.__name__};"
        f" {instead(passed, back)}."
    )


def place_in(place: str, error: Exception) -> str:
    """Return the place in a value that an error of msgspec names; ``place`` if it names none."""
    found = _PATH.search(str(error))
    return place + next((each for each in found.groups() if each), "") if found else place


def _odd(value: Any) -> str:
    match value:
        case datetime.time():
            return "JSON has no zone and no fold: pass value.replace(tzinfo=None, fold=0)"
        case datetime.datetime():
            return (
                "JSON keeps its offset in whole minutes, and no zone and no fold: pass"
                " value.astimezone(datetime.UTC)"
            )
        case float():
            return "JSON has no NaN and no infinity, and a huge one becomes a whole number"
        case dict() | list() | set() | frozenset() | tuple():
            return "some keys or values would be merged or lost: pass only what the type names"
        case _:
            return "pass a value that can be read back from its JSON, or text"
