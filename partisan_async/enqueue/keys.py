"""The *key* of a call: what it shares with the calls that ``UNIQUE`` takes for the same."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import repeat
from typing import Any

from partisan_async import registry
from partisan_async.claim import Call
from partisan_async.enqueue import arguments
from partisan_async.enqueue.misfit import Misfit
from partisan_async.enqueue.parameters import Stored, parameters_of
from partisan_async.enqueue.parameters.signature import parameters_declared_by, shown
from partisan_async.enqueue.parameters.stored import as_given_back
from partisan_async.unique import Unique
from partisan_async.validation import check_unique


def identified(call: Call, processor: type[Any], lasting_name: str) -> Call:
    """Return a call with the key or the digest that its processor gives it, if any.

    :raises TypeError: as ``with_key``.
    """
    if processor.UNIQUE is not None:
        return with_key(call, processor, lasting_name)
    return with_digest(call, lasting_name) if processor.UNIQUE_FOR_PARAMS else call


def with_digest(call: Call, lasting_name: str) -> Call:
    """Return a call with the digest of all that it passes."""
    return call._replace(digest=arguments.digest(lasting_name, call.arguments, call.subject))


def with_key(call: Call, processor: type[Any], lasting_name: str) -> Call:
    """Return a call with the key that its processor's ``UNIQUE`` gives it.

    :raises TypeError: ``UNIQUE`` cannot be, or the call does not pass what it names.
    """
    (key,) = _keys(processor, lasting_name, [call.arguments], [call.subject])
    return keyed(call, processor.UNIQUE, key)


def keyed(call: Call, rule: Unique, key: bytes) -> Call:
    """Return a call with this key, in the column that it is for."""
    if rule.while_running:
        return call._replace(unique_key=key, unique=rule)
    return call._replace(digest=key, unique=None if rule.is_plain else rule)


def keys_of(
    processor_name: str, encoded: Iterable[str], subjects: Sequence[str | None] | None = None
) -> Iterable[bytes]:
    """Return the digest or the key of each of these calls of a processor.

    :param subjects: whose each is; ``None``: nobody's.
    :raises TypeError: as ``with_key``; about a call when it is its turn.
    """
    processor, lasting_name = registry.get(processor_name), registry.lasting_name(processor_name)
    if processor.UNIQUE is None:
        return _digests(lasting_name, encoded, subjects)
    return _keys(processor, lasting_name, encoded, subjects)


def key_of_values(processor_name: str, values: dict[str, Any], subject: str | None = None) -> bytes:
    """Return the key of calls that have these JSON values in common, by their places."""
    text = arguments.canonical({"by": values})
    # A row gives another text of some numbers back: calls are the same in either.
    return arguments.digest(processor_name, arguments.canonical(as_given_back(text)), subject)


@cache
def wrong_by(processor: Any, by: tuple[str | int, ...]) -> Misfit | None:
    """Say what is wrong with ``by`` for a processor; ``None``: nothing that can be seen."""
    if hasattr(processor, "values_by"):  # one of Django's own tasks: its function has defaults
        return None
    name = processor.__name__
    declared = parameters_declared_by(processor)
    if declared is None:
        return next(_not_passed_by_ticks(processor, by), None)
    for each in by:
        if each not in {parameter.name for parameter in declared}:
            return Misfit(
                f"{name}.UNIQUE is by {each!r}, which is no parameter of its run().",
                f"Name those of {shown(declared)}.",
            )
    return None


def _not_passed_by_ticks(processor: Any, by: tuple[str | int, ...]) -> Iterator[Misfit]:
    several = getattr(processor, "SCHEDULES", None)
    named = several.items() if isinstance(several, Mapping) else ()
    schedules = [("SCHEDULE", getattr(processor, "SCHEDULE", None))]
    schedules += [(f"schedule {name!r}", each) for name, each in named]
    for what, each in schedules:
        passed = getattr(each, "kwargs", ())
        if each is not None and (missing := [place for place in by if place not in passed]):
            yield Misfit(
                f"{processor.__name__}.UNIQUE is by {missing[0]!r}, which a tick of its {what} does"
                " not pass.",
                "Give that schedule kwargs with it, or leave it out of by; or give run() parameters"
                " with defaults.",
            )


def _digests(
    lasting_name: str, encoded: Iterable[str], subjects: Sequence[str | None] | None
) -> list[bytes]:
    if subjects is not None:
        encoded = map(arguments.of_subject, encoded, subjects)
    return arguments.digests(lasting_name, encoded)


def _keys(
    processor: Any,
    lasting_name: str,
    encoded: Iterable[str],
    subjects: Sequence[str | None] | None,
) -> Iterable[bytes]:
    rule = processor.UNIQUE
    if wrong := check_unique(rule):
        raise TypeError(f"{processor.__name__}.UNIQUE {wrong}.")
    if rule.by is None:
        return _digests(lasting_name, encoded, subjects)
    by = tuple(rule.by)
    if found := wrong_by(processor, by):
        raise TypeError(f"{found.wrong} {found.hint}")
    return (
        key_of_values(lasting_name, _values(processor, by, each), subject)
        for each, subject in zip(encoded, subjects or repeat(None), strict=False)
    )


def _values(processor: type[Any], by: Sequence[str | int], encoded: str) -> dict[str, Any]:
    call = json.loads(encoded)
    of_function = getattr(processor, "values_by", None)
    if of_function is not None:  # one of Django's own tasks
        chosen: dict[str, Any] = of_function(call["args"], call["kwargs"], by)
        return chosen
    stored = Stored(call["args"], call["kwargs"])
    parameters = parameters_of(processor)
    if parameters is not None:
        return parameters.chosen(stored, [str(name) for name in by])
    return {str(place): _passed(processor, stored, place) for place in by}


def _passed(processor: type[Any], stored: Stored, place: str | int) -> Any:
    if isinstance(place, str) and place in stored.kwargs:
        return stored.kwargs[place]
    if isinstance(place, int) and place < len(stored.args):
        return stored.args[place]
    way = f"{place}=…" if isinstance(place, str) else f"an argument at position {place}"
    raise TypeError(
        f"{processor.__name__}.UNIQUE is by {place!r}, and this call does not pass it: pass {way}."
    )
