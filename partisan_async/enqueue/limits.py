"""The *limit* of a call: what it starts under, and the key there that ``limit_key()`` says it has.

The key is asked once, where the call is made: see ``asking``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

from partisan_async import registry
from partisan_async.claim import Call
from partisan_async.enqueue import asking
from partisan_async.enqueue.arguments import require_text
from partisan_async.enqueue.misfit import Misfit
from partisan_async.limits import Limit
from partisan_async.validation import check_limit

LONGEST = 255

METHOD = "limit_key"

BY_KEY = ("running_per_key", "rates_per_key", "in_order", "fair")
"""The parts of a limit that are of keys."""


def limited(call: Call, limit: Limit, lasting_name: str, key: str | None) -> Call:
    """Return a call with the limit of its processor, and with this key there."""
    return call._replace(
        limit_name=name_of(limit, lasting_name),
        limit_key=key,
        limit_rank=0 if limit.in_order else call.priority,
    )


def with_limit_unasked(call: Call, kind: type[Any]) -> Call:
    """Return a call that is made where no project code may be asked: with its processor's limit, if
    it has one without keys. With keys it is enqueued without, and who runs it asks for the key.

    :raises TypeError: as ``refuse_wrong``.
    """
    return call if kind.LIMIT is None or has_keys(kind) else with_limit(call, kind, None)


def with_limit(call: Call, kind: type[Any], key: str | None) -> Call:
    """Return a call with the limit that its processor declares, if any, and with this key there.

    :raises TypeError: as ``refuse_wrong``.
    """
    if kind.LIMIT is None:
        return call
    refuse_wrong(kind)
    return limited(call, kind.LIMIT, registry.lasting_name(call.processor_class), key)


def name_of(limit: Limit, lasting_name: str) -> str:
    """Return the name by which a limit is known: its own, or the lasting one of its processor."""
    return lasting_name if limit.name is None else _plain(limit.name)


def refuse_wrong(kind: type[Any]) -> None:
    """Refuse a ``LIMIT`` that no call can be enqueued with.

    :raises TypeError: it is invalid, contradicts itself, or needs a ``limit_key()``.
    """
    if wrong := wrong_limit(kind):
        raise TypeError(wrong)


def wrong_limit(kind: type[Any]) -> str | None:
    """Say what is wrong with a ``LIMIT`` or its ``limit_key()``; ``None``: nothing, or no limit."""
    if kind.LIMIT is None:
        return None
    if wrong := check_limit(kind.LIMIT):
        return f"{kind.__name__}.LIMIT {wrong}."
    faults = (*contradictions(kind), *keyless(kind), *wrong_key_method(kind))
    return next((f"{found.wrong} {found.hint}" for found in faults), None)


def refuse_other_queue(limit: Limit, queue_name: str, own: str, whose: str, way: str) -> None:
    """Refuse a queue beside a processor's own: tasks are in order within one queue alone.

    :param whose: what the limit is called in the message.
    :param way: how its queue is set.
    :raises ValueError: there is an order to keep.
    """
    if limit.in_order and queue_name != own:
        raise ValueError(
            f"{whose} is in order, and tasks are so within one queue alone: leave out"
            f" queue_name={queue_name!r}, or {way}."
        )


def key_of(processor: Any) -> str | None:
    """Return the key of a call whose arguments were found to fit; ``None``: it has none.

    :raises TypeError, ValueError: it cannot be one, or ``limit_key()`` raised.
    """
    kind: Any = type(processor)
    if is_djangos(kind):
        told: str | None = kind.limit_key_of_call(processor.args, processor.kwargs)
        return told
    if not hasattr(kind, METHOD):
        return None
    return _told(f"{kind.__name__}.{METHOD}()", asking.ask(processor, METHOD))


def of_stored(kind: type[Any], encoded: str) -> str | None:
    """Return the key of a call that is made from stored arguments; ``None``: it has none.

    :raises TypeError, ValueError: as ``key_of``; the call does not fit; or as ``refuse_wrong``.
    """
    if not is_keyed(kind):
        return None
    refuse_wrong(kind)
    return key_of(asking.made_from(kind, encoded))


def asked(what: str, ask: Callable[[], object]) -> str | None:
    """Return what project code says a call's key is.

    :param what: that code, for the message.
    :raises TypeError, ValueError: it cannot be one, or that code raised.
    """
    return _told(what, asking.by_the_project(what, ask))


def checked(key: object, what: str) -> str | None:
    """Return a key as rows take it; ``None``: no key. 5 and "5" are one.

    The message leaves it out: it may be a person's name, and errors are stored and sent on.

    :param what: what gave it, for the message.
    :raises TypeError, ValueError: it cannot be one.
    """
    if key is None:
        return None
    if isinstance(key, bool) or not isinstance(key, str | int | UUID):
        raise TypeError(
            f"{what} is of type {type(key).__name__}; it must be text, a whole number or a UUID, or"
            " None for a task without a key."
        )
    if isinstance(key, int) and key.bit_length() > 4 * LONGEST:  # Python writes out no more
        raise ValueError(f"{what} has over {LONGEST} digits; it must have {LONGEST} at most.")
    text = _plain(key) if isinstance(key, str) else str(int(key) if isinstance(key, int) else key)
    if len(text) > LONGEST:
        raise ValueError(f"{what} has {len(text)} characters; it must have {LONGEST} at most.")
    require_text(text, what)
    return text


def has_keys(kind: type[Any]) -> bool:
    """Tell whether a processor says which key its calls have."""
    return hasattr(kind, METHOD) if not is_djangos(kind) else kind.limit_key_by is not None


def is_keyed(kind: type[Any]) -> bool:
    """Tell whether a processor has a limit, and its calls have keys there."""
    return kind.LIMIT is not None and has_keys(kind)


def contradictions(kind: type[Any]) -> Iterator[Misfit]:
    """Yield what contradicts itself in a ``LIMIT`` whose values are valid."""
    limit, whose = kind.LIMIT, f"{kind.__name__}.LIMIT"
    if limit.in_order and limit.running_per_key is not None:
        yield Misfit(
            f"{whose} is in_order, so that one task of a key runs at once, and has"
            f" running_per_key={limit.running_per_key}.",
            "Leave one of the two out.",
        )


def keyless(kind: type[Any]) -> Iterator[Misfit]:
    """Yield the parts of a ``LIMIT`` that are of keys, where nothing says which key a call has."""
    if has_keys(kind):
        return
    for part in BY_KEY:
        if value := getattr(kind.LIMIT, part):
            yield Misfit(
                f"{kind.__name__}.LIMIT has {part}={value!r}, and the class has no {METHOD}().",
                f"Write def {METHOD}(self, …), which returns the key of a call.",
            )


def wrong_key_method(kind: Any) -> Iterator[Misfit]:
    """Yield what is wrong with the ``limit_key()`` of a processor."""
    if hasattr(kind, METHOD) and (found := asking.wrong_method(kind, METHOD)) is not None:
        yield found


def is_djangos(kind: type[Any]) -> bool:
    """Tell whether it is one of Django's own tasks, whose options say it."""
    return hasattr(kind, "limit_key_of_call")


def _told(what: str, key: object) -> str | None:
    return checked(key, f"What {what} returned")


def _plain(text: str) -> str:
    """Return the text itself, also of a member of an enum, or of a subclass."""
    return str.__str__(text) if issubclass(type(text), str) else str(text)
