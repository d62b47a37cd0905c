"""The calls of one ``bulk_delay()``: each is checked, and they are told apart by their kinds.

Calls of one *kind* are of one processor: they differ in arguments, subjects and keys alone, and in
their keys under its limit. The *number* of a call is its place among all of them.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from partisan_async.claim import Call
from partisan_async.enqueue import refusals
from partisan_async.enqueue.calls import call_of, encoded_of
from partisan_async.enqueue.keys import keys_of
from partisan_async.enqueue.limits import key_of
from partisan_async.enqueue.subjects import subject_of
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.registry import lasting_name

if TYPE_CHECKING:
    from partisan_async.models import Task


@dataclass(frozen=True, slots=True)
class Batch:
    """Many calls.

    :param processors: the class of each kind.
    :param kinds: the first call of each kind.
    :param kind_of: the kind of each call, by its place among the kinds.
    :param encoded: the arguments of each call.
    :param subjects: whose each call is; ``None``: all are nobody's.
    :param limit_keys: its key under its limit, likewise; ``None``: none starts under a limit.
    :param keys: the digest or the key of each call; empty: it has none.
    """

    processors: Sequence[type[Any]]
    kinds: Sequence[Call]
    kind_of: Sequence[int]
    encoded: Sequence[str]
    subjects: Sequence[str | None] | None
    limit_keys: Sequence[str | None] | None
    keys: list[bytes]

    def __len__(self) -> int:
        return len(self.encoded)

    @property
    def queue_name(self) -> str | None:
        """The queue of all calls; ``None``: they go to several."""
        return _only(each.queue_name for each in self.kinds)

    @property
    def processor_class(self) -> str | None:
        """The processor of all calls; ``None``: there are several."""
        return _only(each.processor_class for each in self.kinds)

    @property
    def plain_kinds(self) -> list[int]:
        """The kinds whose calls are the same only while they wait, if at all."""
        return [kind for kind, call in enumerate(self.kinds) if call.unique is None]

    @property
    def ruled_kinds(self) -> list[int]:
        """The kinds whose ``UNIQUE`` says more, by the lasting names of their processors."""
        ruled = [kind for kind, call in enumerate(self.kinds) if call.unique is not None]
        return sorted(ruled, key=lambda kind: lasting_name(self.kinds[kind].processor_class))

    def numbers(self, kinds: Sequence[int]) -> Sequence[int]:
        """Return the numbers of the calls of these kinds, in their order."""
        if len(kinds) == len(self.kinds):
            return range(len(self))
        among = set(kinds)
        return [number for number, kind in enumerate(self.kind_of) if kind in among]

    def subjects_of(self, numbers: Sequence[int]) -> list[str | None] | None:
        """Return whose these calls are; ``None``: all are nobody's."""
        return None if self.subjects is None else [self.subjects[n] for n in numbers]

    def limit_keys_of(self, numbers: Sequence[int]) -> list[str | None] | None:
        """Return the keys of these calls under their limits; ``None``: none of them has one."""
        if self.limit_keys is None:
            return None
        kinds = {self.kind_of[n] for n in numbers}
        if all(self.kinds[kind].limit_name is None for kind in kinds):
            return None
        return [self.limit_keys[n] for n in numbers]

    def traced(self, traceparent: str | None) -> Batch:
        """Return the same calls, enqueued in this span."""
        return replace(self, kinds=[each._replace(traceparent=traceparent) for each in self.kinds])

    def by_processor(self, tasks: Sequence[Task]) -> Iterator[tuple[type[Any], Sequence[Task]]]:
        """Yield each processor with its own of the tasks of all calls."""
        if len(self.kinds) == 1:
            yield self.processors[0], tasks
            return
        own: list[list[Task]] = [[] for _ in self.kinds]
        for kind, task in zip(self.kind_of, tasks, strict=True):
            own[kind].append(task)
        yield from zip(self.processors, own, strict=True)


def batch_of(
    processors: Iterable[Any],
    expected: type,
    base: type,
    priority: int,
    execute_after: datetime.datetime | None,
    queue_name: str | None,
    subject: str | None,
) -> Batch:
    """Return these calls, checked; other parameters and errors as for ``bulk_delay``.

    :param expected: the class whose ``bulk_delay()`` it is.
    :param base: the base class of all calls.
    """
    refusals.refuse_single_call(processors, expected, base)
    places: dict[type, int] = {}
    kinds: list[Call] = []
    kind_of, encoded = [], []
    subjects: list[str | None] = []
    limit_keys: list[str | None] = []
    for number, processor in enumerate(processors):
        kind = places.get(type(processor))
        if kind is None and not issubclass(type(processor), expected):
            raise refusals.foreign_call(number, processor, expected, base)
        try:
            if kind is None:
                first = call_of(processor, priority, execute_after, queue_name, subject)
                kind = places[type(processor)] = len(places)
                kinds.append(first)
                encoded.append(first.arguments)
                subjects.append(first.subject)
                limit_keys.append(first.limit_key)
            else:
                common = kinds[kind]
                encoded.append(encoded_of(processor, common.queue_name))
                subjects.append(subject_of(processor, subject))
                limit_keys.append(None if common.limit_name is None else key_of(processor))
        except (TypeError, ValueError, ProcessorClassNotFound) as error:
            raise refusals.numbered(number, error) from None
        except AttributeError as error:
            why = refusals.without_arguments(processor) or error
            raise refusals.numbered(number, why) from None
        kind_of.append(kind)
    whose = None if all(each is None for each in subjects) else subjects
    in_limits = None if all(each.limit_name is None for each in kinds) else limit_keys
    batch = Batch(list(places), kinds, kind_of, encoded, whose, in_limits, [b""] * len(encoded))
    for kind in range(len(kinds)):
        _set_keys(batch, kind)
    return batch


def _set_keys(batch: Batch, kind: int) -> None:
    first = batch.kinds[kind]
    if not first.key:
        return
    numbers = batch.numbers([kind])
    encoded = [batch.encoded[n] for n in numbers]
    keys = iter(keys_of(first.processor_class, encoded, batch.subjects_of(numbers)))
    for number in numbers:
        try:
            batch.keys[number] = next(keys)
        except TypeError as error:  # it does not pass what UNIQUE is by
            raise refusals.numbered(number, error) from None


def _only(names: Iterable[str]) -> str | None:
    several = set(names)
    return several.pop() if len(several) == 1 else None
