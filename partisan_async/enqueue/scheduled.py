"""The calls that schedules enqueue, and the keys by which schedules are known.

A *key* is what a schedule's row is called: ``Report`` for a ``SCHEDULE``, ``Report:eu`` for one of
``SCHEDULES``, and ``:acme`` for one that is *made* at run time, and is in no code. One of Django's
own tasks is called by its dotted name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from partisan_async import naming, registry, schedule
from partisan_async.claim import Call
from partisan_async.enqueue import keys, limits
from partisan_async.enqueue.calls import call_of, encoded_of
from partisan_async.enqueue.subjects import subject_of
from partisan_async.exceptions import ArgumentsTooLarge
from partisan_async.schedule import Cron, Every

EXAMPLE = '{"eu": Cron("0 7 * * *", kwargs={"region": "eu"})}'

MOST_BYTES = 2**16
"""Maximum size of a schedule's arguments: whoever looks what is due reads them."""


def schedules_of(processor_class: type[Any]) -> dict[str, Cron | Every]:
    """Return the schedules of a processor in the code, by their keys."""
    lasting = registry.lasting_name(naming.name_of(processor_class))
    found = {}
    if processor_class.SCHEDULE is not None:
        found[lasting] = schedule.of(processor_class.SCHEDULE)
    for name, value in processor_class.SCHEDULES.items():
        found[f"{lasting}:{name}"] = schedule.of(value)
    return found


def has_schedules(processor_class: type[Any]) -> bool:
    """Tell whether a processor has schedules in the code."""
    return processor_class.SCHEDULE is not None or bool(processor_class.SCHEDULES)


def having_schedules() -> list[type[Any]]:
    """Return the processors with schedules in the code, those of Django's own tasks among them."""
    return [each for each in registry.processors_and_tasks() if has_schedules(each)]


def scheduled() -> dict[str, type[Any]]:
    """Return the processors of all schedules in the code, by the schedules' keys."""
    return {key: each for each in having_schedules() for key in schedules_of(each)}


def key_of(name: str) -> str:
    """Return the key of a schedule, of which somebody may know its processor by another name."""
    for each in having_schedules():
        for known in naming.names_of(each):
            if name == known or name.startswith(f"{known}:"):
                key = registry.lasting_name(known) + name.removeprefix(known)
                if key in schedules_of(each):
                    return key
    return registry.lasting_name(name)


def made_key(name: str) -> str:
    """Return the key of a schedule that is made at run time.

    :raises TypeError, ValueError: none can have this name.
    """
    if not isinstance(name, str):
        raise TypeError(
            f"A schedule's name is text, such as 'acme', and not {name!r} of type"
            f" {type(name).__name__}."
        )
    if wrong := wrong_name(name):
        raise ValueError(f"{name!r} cannot be the name of a schedule: it {wrong}.")
    return f":{name}"


def wrong_name(name: str, processor: str = "") -> str | None:
    """Say what is wrong with the name of a schedule, ``None`` if nothing.

    :param processor: the processor's name that the key begins with.
    """
    longest = naming.LONGEST - 1 - len(processor)
    if not 1 <= len(name) <= longest:
        return f"has {len(name)} characters; it must have 1 to {longest}"
    if not name.isprintable() or name != name.strip():
        return "must be text that can be printed, without blanks around it"
    return None


def wrong_schedules(value: object, processor: str, whose: str) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a value as ``SCHEDULES``, and the way out, as sentences.

    :param processor: the name that the keys begin with.
    :param whose: what the value is called.
    """
    if not isinstance(value, Mapping):
        yield f"{whose} is {value!r}.", f"It must be a dict by names, such as {EXAMPLE}."
        return
    for name, each in value.items():
        if not isinstance(name, str):
            yield f"{whose} has the name {name!r}.", "A schedule's name must be text, such as 'eu'."
        elif wrong := wrong_name(name, processor):
            yield f"{whose} has the name {name!r}.", f"It {wrong}."
        if each is None:
            yield f"{whose}[{name!r}] is None.", "Leave it out."
        elif wrong := schedule.wrong(each):
            yield f"{whose}[{name!r}] is {each!r}.", f"It {wrong}."


def tick_of(processor_class: type[Any], known: Cron | Every) -> Call:
    """Return the call that a tick of a processor's schedule enqueues; errors as for ``delay``."""
    called, queue_name = called_by(processor_class, known), processor_class.QUEUE_NAME
    call = call_of_stored(processor_class, called.arguments, queue_name, called.subject)
    return limits.with_limit(_fitted(call, known), processor_class, called.limit_key)


class Called(NamedTuple):
    """What a schedule keeps of its call.

    :param arguments: as its row stores them.
    :param subject: whose its tasks are; ``None``: nobody's.
    :param limit_key: their key under the processor's limit, if it was asked for.
    """

    arguments: str
    subject: str | None
    limit_key: str | None = None


def called_by(processor_class: type[Any], known: Cron | Every) -> Called:
    """Return what a processor's schedule in the code calls it with.

    :raises TypeError, ValueError: ``run()`` does not take that, it cannot be stored, or its
        ``task_subject()`` cannot say whose these tasks are, nor ``limit_key()`` their key.
    """
    return called_with(processor_class, (), known.kwargs)


def called_with(
    processor_class: type[Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    subject: str | None = None,
) -> Called:
    """Return what a schedule keeps of a call of a processor; as above.

    :param subject: whose it is, as for ``delay``.
    """
    called = object.__new__(processor_class)
    # Not by its own __init__(): it is project code, which may do anything in a supervisor.
    called.args, called.kwargs = args, dict(kwargs)
    refuse_misfit = getattr(processor_class, "_refuse_misfit", None)
    if refuse_misfit is not None:  # one of Django's own tasks
        refuse_misfit(args, kwargs)
    encoded = encoded_of(called, processor_class.QUEUE_NAME)
    _require_size(encoded)
    return Called(encoded, subject_of(called, subject), _limit_key_of(called))


def call_of_stored(
    processor_class: type[Any], encoded: str, queue_name: str, subject: str | None
) -> Call:
    """Return the call of a schedule, as ``delay()`` makes it.

    :param encoded, subject: as its row stores them.
    :raises TypeError: ``UNIQUE`` is invalid, or the call does not pass what it names.
    """
    made: Call = processor_class._call_by_schedule(encoded, queue_name, subject)  # noqa: SLF001
    return made


def call_by_schedule(
    processor_class: type[Any], encoded: str, queue_name: str, subject: str | None
) -> Call:
    """As ``call_of_stored``, of a processor that is none of Django's own tasks."""
    name, lasting_name = registry.names_for_calls(processor_class)
    priority = processor_class.PRIORITY
    call = Call(queue_name, name, encoded, priority, None, None, subject=subject)
    return keys.identified(call, processor_class, lasting_name)


def made_tick_of(
    processor_class: type[Any],
    called: Called,
    queue_name: str,
    known: Cron | Every,
    *,
    is_keyed: bool = False,
) -> Call:
    """Return the call that the ticks of a schedule made at run time enqueue; as ``call_of_stored``.

    What asks for a key is project code, and this is called in a supervisor: if nobody has asked,
    whoever runs them asks.

    :param is_keyed: whether the key was asked for of this call, as the schedule was made.
    """
    call = call_of_stored(processor_class, called.arguments, queue_name, called.subject)
    call = _fitted(call, known)
    if is_keyed and limits.is_keyed(processor_class):
        return limits.with_limit(call, processor_class, called.limit_key)
    return limits.with_limit_unasked(call, processor_class)


def checked_call(processor: Any, subject: str | None) -> Called:
    """Return what is kept of a call that is to be enqueued again and again; errors as for
    ``delay``."""
    call = call_of(processor, 0, None, subject=subject)
    _require_size(call.arguments)
    return Called(call.arguments, call.subject, call.limit_key)


def names_to_skip(processor_class: type[Any], known: Cron | Every) -> tuple[str, ...]:
    """Return the names of the processor whose running tasks hold a schedule's tick up."""
    return naming.names_of(processor_class) if known.skip_while_running else ()


def _fitted(call: Call, known: Cron | Every) -> Call:
    if known.catch_up:
        # Somebody counts on a task for each tick, so none may be dropped as identical.
        return call.beside_twins()
    if known.skip_while_running and not call.key:
        # Or two of its tasks could wait, and then run, side by side.
        return keys.with_digest(call, registry.lasting_name(call.processor_class))
    return call


def _limit_key_of(called: Any) -> str | None:
    kind: Any = type(called)
    return None if kind.LIMIT is None else limits.key_of(called)


def _require_size(encoded: str) -> None:
    if len(encoded) > MOST_BYTES:
        raise ArgumentsTooLarge(
            f"The arguments of a schedule are {len(encoded):,} bytes of JSON, and may be"
            f" {MOST_BYTES:,}: pass the key of a row or of a file that holds them."
        )
