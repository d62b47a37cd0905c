"""Checks of ``LIMIT``: that it contradicts neither itself, nor its processor, nor others' limits.

Whether its values are valid is told beside those of the other attributes, as E032.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004  Django's name

from partisan_async import registry
from partisan_async.checks.processors import known_processors
from partisan_async.declared import limit_of
from partisan_async.enqueue.limits import contradictions, keyless, wrong_key_method
from partisan_async.enqueue.misfit import Misfit
from partisan_async.limits import Limit, Rate
from partisan_async.validation import check_limit

Processor = type[Any]


@register("partisan_async")
def check_limits(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """E033: a ``LIMIT`` contradicts itself. E034: tasks that are in order are of several queues.
    E035: it has parts of keys, and nothing says which key a call has. E036: two processors share a
    limit, and disagree about it. E037: ``limit_key()`` cannot be called. W018: a part of it never
    holds anything up.
    """
    found: list[CheckMessage] = []
    sharers: dict[str, list[Processor]] = defaultdict(list)
    for processor in (*known_processors(), *registry.tasks_with_options()):
        limit = limit_of(processor)
        if limit is None or check_limit(processor.LIMIT):
            continue
        sharers[limit[0]].append(processor)
        found += _errors("partisan_async.E033", contradictions(processor), processor)
        found += _errors("partisan_async.E035", keyless(processor), processor)
        found += _errors("partisan_async.E037", wrong_key_method(processor), processor)
        found += _never_biting(processor)
    for name, several in sharers.items():
        for each in several[1:]:
            found += _errors("partisan_async.E034", _of_other_queue(name, several[0], each), each)
            found += _errors("partisan_async.E036", _of_another_mind(name, several[0], each), each)
    return found


def _errors(number: str, found: Iterable[Misfit], processor: Processor) -> Iterator[CheckMessage]:
    for wrong, hint in found:
        yield Error(wrong, hint=hint, obj=processor, id=number)


def _of_other_queue(name: str, first: Processor, other: Processor) -> Iterator[Misfit]:
    in_order = first.LIMIT.in_order or other.LIMIT.in_order
    if in_order and first.QUEUE_NAME != other.QUEUE_NAME:
        yield Misfit(
            f"The limit {name!r} is in order, and its tasks are of two queues:"
            f" {first.__name__}.QUEUE_NAME is {first.QUEUE_NAME!r}, and"
            f" {other.__name__}.QUEUE_NAME is {other.QUEUE_NAME!r}.",
            "Give both the same queue: tasks are in order within one alone.",
        )


def _of_another_mind(name: str, first: Processor, other: Processor) -> Iterator[Misfit]:
    if _content(first.LIMIT) != _content(other.LIMIT):
        yield Misfit(
            f"{first.__name__} and {other.__name__} share the limit {name!r}, and disagree about"
            f" it: {first.LIMIT!r} and {other.LIMIT!r}.",
            "Write it once, as a constant that both have as LIMIT; or give each a name of its own.",
        )


def _content(limit: Limit) -> tuple[object, ...]:
    """Return what sharers have to agree about."""
    rates, rates_per_key = (
        sorted((each.count, each.per_seconds) for each in several)
        for several in (limit.rates, limit.rates_per_key)
    )
    return limit.running, limit.running_per_key, rates, rates_per_key, limit.in_order


def _never_biting(processor: Processor) -> Iterator[CheckMessage]:
    for what, why in _moot(processor.LIMIT):
        yield Warning(
            f"{processor.__name__}.LIMIT has {what}, which never holds a task up: {why}.",
            hint="Leave it out.",
            obj=processor,
            id="partisan_async.W018",
        )


def _moot(limit: Limit) -> Iterator[tuple[str, str]]:
    """Yield parts that never bite, and the part that bites first."""
    running, per_key = limit.running, limit.running_per_key
    if running is not None and per_key is not None and running <= per_key:
        yield f"running_per_key={per_key}", f"running={running} allows no more"
    for rate in limit.rates:
        yield from _moot_by(rate, limit.rates)
    for rate in limit.rates_per_key:
        # What holds of all keys together holds of each.
        yield from _moot_by(rate, [*limit.rates_per_key, *limit.rates])


def _moot_by(rate: Rate, others: Sequence[Rate]) -> Iterator[tuple[str, str]]:
    for other in others:
        is_longer = other.per_seconds >= rate.per_seconds and other.count <= rate.count
        if is_longer and other is not rate:
            yield repr(rate), f"{other!r} allows no more in a window at least as long"
            return
