"""The *subject* of a call: whose task it is, as the caller says, or as ``task_subject()`` does.

Where no call is made by ``delay()``, it is kept with what the call is made from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from partisan_async.enqueue import asking
from partisan_async.enqueue.arguments import require_text
from partisan_async.enqueue.misfit import Misfit

LONGEST = 255

METHOD = "task_subject"


def checked(subject: object, what: str = "subject") -> str | None:
    """Return a subject as rows take it; ``None``: nobody's.

    The message leaves it out: it may be a person's name, and errors are stored and sent on.

    :param what: what gave it, for the message.
    :raises TypeError, ValueError: it cannot be one.
    """
    if subject is None:
        return None
    if not isinstance(subject, str):
        raise TypeError(
            f"{what} is of type {type(subject).__name__}; it must be text such as 'customer:42', or"
            " None for a task that is nobody's."
        )
    if not 1 <= len(subject) <= LONGEST:
        raise ValueError(
            f"{what} has {len(subject)} characters; it must be text of 1 to {LONGEST}, such as"
            " 'customer:42', or None for a task that is nobody's."
        )
    require_text(subject, what)
    return str.__str__(subject)  # of an enum, its value


def subject_of(processor: Any, given: str | None = None) -> str | None:
    """Return the subject of a call whose arguments were found to fit.

    :param given: what the caller says, which counts before what ``task_subject()`` does.
    :raises TypeError, ValueError: it cannot be one, or that method raised.
    """
    if given is not None:
        return checked(given)
    kind: Any = type(processor)
    if _is_djangos(kind):
        told: str | None = kind.subject_of_call(processor.args, processor.kwargs)
        return told
    if not hasattr(kind, METHOD):
        return None
    return _told(f"{kind.__name__}.{METHOD}()", asking.ask(processor, METHOD))


def of_stored(kind: type[Any], encoded: str, kept: str | None = None) -> str | None:
    """Return the subject of a call that is made from stored arguments.

    :param kept: what it was before; it stays where ``task_subject()`` says nothing.
    :raises TypeError, ValueError: as ``subject_of``; or the call does not fit.
    """
    if not (hasattr(kind, METHOD) or _is_djangos(kind)):
        return kept
    found = subject_of(asking.made_from(kind, encoded))
    return kept if found is None else found


def asked(what: str, ask: Callable[[], object]) -> str | None:
    """Return what project code says a call's subject is.

    :param what: that code, for the message.
    :raises TypeError, ValueError: it cannot be one, or that code raised.
    """
    return _told(what, asking.by_the_project(what, ask))


def wrong_subject(kind: Any) -> Misfit | None:
    """Say what is wrong with the ``task_subject()`` of a processor; ``None``: nothing."""
    return asking.wrong_method(kind, METHOD)


def _told(what: str, subject: object) -> str | None:
    return checked(subject, f"What {what} returned")


def _is_djangos(kind: type[Any]) -> bool:
    """Tell whether it is one of Django's own tasks, whose options say it."""
    return hasattr(kind, "subject_of_call")
