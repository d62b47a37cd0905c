"""Says what is wrong with a value: a setting, an attribute of a processor, or an option."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from partisan_async import dsn
from partisan_async.exceptions import TEN_YEARS_SECONDS
from partisan_async.limits import Limit, Rate
from partisan_async.unique import Unique

SHORTEST_WINDOW_SECONDS = 0.1

MOST = 2**31 - 1
"""Maximum of the columns that hold numbers of tasks."""

_HALF_OF_A_PAIR = re.compile("[\ud800-\udfff]")


def check_count(least: int) -> Callable[[Any], str | None]:
    """Return a check: the complaint about a value that must be a whole number, or ``None``."""

    def check(value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            return f"must be a whole number, {least} or more"
        return None

    return check


def check_workers(example: str) -> Callable[[Any], str | None]:
    """Return a check: the complaint about a value that must be a number of workers, or ``None``.

    :param example: of the fewest and the most, as it is written there.
    """

    def check(value: Any) -> str | None:
        if isinstance(value, list | tuple) and len(value) == 2:
            least, most = value
            wrong = check_count(0)(least) or check_count(1)(most)
            if wrong is None and least <= most:
                return None
        elif check_count(1)(value) is None:
            return None
        several = f"the fewest and the most of them, such as {example}"
        return f"must be a whole number, 1 or more, or {several}"

    return check


def check_seconds(least: float) -> Callable[[Any], str | None]:
    """Return a check: the complaint about a value that must be seconds, or ``None``."""

    def check(value: Any) -> str | None:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not least <= value <= TEN_YEARS_SECONDS:
            return f"must be a number of seconds, {least:g} or more, up to ten years"
        return None

    return check


def check_time_limit(value: Any) -> str | None:
    """Return the complaint about a value that must be a time limit, or ``None``."""
    if value is None or value == math.inf:
        return None
    wrong = check_seconds(0.01)(value)
    return wrong and f"{wrong}, or math.inf for none, or None for the queue's"


def check_or_none(check: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
    """Return the same check, which accepts ``None``, too."""

    def checked(value: Any) -> str | None:
        wrong = None if value is None else check(value)
        return wrong and f"{wrong}, or None"

    return checked


def check_flag(value: Any) -> str | None:
    """Return the complaint about a value that must be a bool, or ``None``."""
    return None if isinstance(value, bool) else "must be True or False"


def check_choice(*choices: str) -> Callable[[Any], str | None]:
    """Return a check: the complaint about a value that must be one of these, or ``None``."""

    def check(value: Any) -> str | None:
        return None if value in choices else f"must be {' or '.join(map(repr, choices))}"

    return check


def check_names(value: Any) -> str | None:
    """Return the complaint about a value that must be names of parameters, or ``None``."""
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return None
    return 'must be a tuple of names, such as ("password",)'


def check_priority(value: Any) -> str | None:
    """Return the complaint about a value that must be a priority, or ``None``."""
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**31) <= value < 2**31:
        return "must be a whole number of 32 bits; lower numbers run first"
    return None


def check_queue_name(value: Any) -> str | None:
    """Return the complaint about a value that must be a queue's name, or ``None``."""
    if not isinstance(value, str) or not 1 <= len(value) <= 255:
        return "must be a name of 1 to 255 characters"
    if "\x00" in value or (not value.isascii() and _HALF_OF_A_PAIR.search(value)):
        return "must be a name that PostgreSQL can store, without NUL and halves of surrogate pairs"
    return None


def check_instance_or_none(kind: type) -> Callable[[Any], str | None]:
    """Return a check: the complaint about a value that must be of a class or ``None``."""

    def check(value: Any) -> str | None:
        if value is None or isinstance(value, kind):
            return None
        return f"must be of type {kind.__name__}, or None"

    return check


def check_instances_or_none(kind: type) -> Callable[[Any], str | None]:
    """Return a check: as ``check_instance_or_none``, and a list of one or more of them will do."""

    def check(value: Any) -> str | None:
        several = value if isinstance(value, list | tuple) else (value,)
        if value is None or (several and all(isinstance(each, kind) for each in several)):
            return None
        return f"must be of type {kind.__name__}, or a list of one or more of these, or None"

    return check


def check_unique(value: Any) -> str | None:
    """Return the complaint about a value that must say which calls are the same, or ``None``."""
    if value is None:
        return None
    if not isinstance(value, Unique):
        return "must be Unique(…) of partisan_async.unique, or None"
    for name, check in _OF_UNIQUE.items():
        if wrong := check(getattr(value, name)):
            return f"has {name}={getattr(value, name)!r}, which {wrong}"
    return None


def _check_by(value: Any) -> str | None:
    if isinstance(value, str):
        return f"takes several names; write ({value!r},)"
    if not isinstance(value, list | tuple) or not all(map(_is_place, value)):
        return 'must be a tuple of names of parameters, such as ("account",)'
    twice = [each for position, each in enumerate(value) if each in value[:position]]
    return f"names {twice[0]!r} twice; leave one out" if twice else None


def _is_place(value: object) -> bool:
    return isinstance(value, str) or (type(value) is int and value >= 0)


_OF_UNIQUE: dict[str, Callable[[Any], str | None]] = {
    "by": check_or_none(_check_by),
    "while_running": check_flag,
    "within_seconds": check_or_none(check_seconds(SHORTEST_WINDOW_SECONDS)),
    "on_twin": check_choice("ignore", "replace", "sooner"),
}


def check_limit(value: Any) -> str | None:
    """Return the complaint about a value that must say what tasks start under, or ``None``."""
    if value is None:
        return None
    if not isinstance(value, Limit):
        return "must be Limit(…) of partisan_async.limits, or None"
    for name, check in _OF_LIMIT.items():
        if wrong := check(getattr(value, name)):
            return f"has {name}={getattr(value, name)!r}, which {wrong}"
    if not any(getattr(value, name) for name in _OF_LIMIT if name != "name"):
        return "limits nothing: give it a part, such as running=2, or leave it out"
    return None


def _check_number_of_tasks(value: Any) -> str | None:
    return check_count(1)(value) or (f"must be {MOST} or less" if value > MOST else None)


def _check_rates(value: Any) -> str | None:
    example = "[Rate(100, per_seconds=1)]"
    if isinstance(value, Rate):
        return f"takes several rates; write {example}"
    if not isinstance(value, list | tuple) or not all(isinstance(each, Rate) for each in value):
        return f"must be a list of rates, such as {example}"
    for each in value:
        if wrong := _check_number_of_tasks(each.count):
            return f"has the count {each.count!r}; it {wrong}"
        if wrong := check_seconds(SHORTEST_WINDOW_SECONDS)(each.per_seconds):
            return f"has per_seconds={each.per_seconds!r}; it {wrong}"
    windows = [each.per_seconds for each in value]
    twice = [each for position, each in enumerate(windows) if each in windows[:position]]
    return f"has two rates with per_seconds={twice[0]!r}; leave one out" if twice else None


def _check_limit_name(value: Any) -> str | None:
    if isinstance(value, str) and 1 <= len(value) <= 255 and value.isprintable():
        return None
    return "must be text of 1 to 255 characters that can be printed"


_OF_LIMIT: dict[str, Callable[[Any], str | None]] = {
    "running": check_or_none(_check_number_of_tasks),
    "running_per_key": check_or_none(_check_number_of_tasks),
    "rates": _check_rates,
    "rates_per_key": _check_rates,
    "in_order": check_flag,
    "fair": check_flag,
    "name": check_or_none(_check_limit_name),
}


def check_connection_string(value: Any) -> str | None:
    """Return the complaint about a value that must be a connection string; it shows none of it."""
    if isinstance(value, str):
        with suppress(ValueError):
            dsn.parse(value)
            return None
    return dsn.WRONG
