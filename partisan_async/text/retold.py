"""Carries an error to another process: as plain data, from which an exception is built there.

Log handlers and error trackers need an exception, but the original stays in its worker: unpickling
it would run code of its class. The exception built here has a class of the same name, and frames of
the same files, lines and functions. So trackers see where the error was raised, and group by that
rather than by the message.
"""

from __future__ import annotations

import sys
import traceback
from collections import deque
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any

from partisan_async.policy import Chain, Failure, class_path
from partisan_async.text.masked import without
from partisan_async.text.printable import plain

MOST_ERRORS = 5
MOST_FRAMES = 50
"""Maximum number of frames of each error: the innermost ones are kept."""

MESSAGE_LENGTH = 4_000
NAME_LENGTH = 255


class RetoldError(Exception):
    """Base of exceptions that stand for an error of another process, and have its class's name."""


def message_of(error: BaseException, secrets: Sequence[str] = ()) -> str:
    """Return the message of an error; a long one is cut.

    :param secrets: texts that are masked in it.
    """
    try:
        return without(secrets, str(error))[:MESSAGE_LENGTH]
    except BaseException:  # noqa: BLE001  a __str__ that raises must not end the worker
        return "(its __str__ raised)"


def chain_of(
    error: BaseException, innermost: TracebackType | None, secrets: Sequence[str] = ()
) -> Chain:
    """Return an error and the errors behind it as plain data.

    :param innermost: the error's traceback, from the first frame that is of interest.
    :param secrets: texts that are masked in what they say.
    """
    told: list[list[Any]] = []
    seen: set[int] = set()
    each: BaseException | None = error
    tb, is_cause = innermost, True
    while each is not None and len(told) < MOST_ERRORS and id(each) not in seen:
        seen.add(id(each))
        told.append(
            [class_path(each)[:NAME_LENGTH], message_of(each, secrets), is_cause, _frames(tb)]
        )
        is_cause = each.__cause__ is not None
        hidden = None if each.__suppress_context__ else each.__context__
        each = each.__cause__ or hidden
        tb = None if each is None else each.__traceback__
    return told


def _frames(tb: TracebackType | None) -> list[list[Any]]:
    return [
        [
            frame.f_code.co_filename,
            line or 0,
            frame.f_code.co_qualname,
            str(frame.f_globals.get("__name__", "")),
        ]
        for frame, line in deque(traceback.walk_tb(tb), maxlen=MOST_FRAMES)
    ]


def rebuilt(failure: Failure) -> BaseException:
    """Return an exception that stands for the one that was raised, for log handlers.

    It has no frames if the error was never raised, as when a worker was killed.
    """
    outermost = before = _of_name(failure.exception_class, failure.message)
    try:
        for place, (name, text, is_cause, frames) in enumerate(failure.chain):
            each = before if place == 0 else _of_name(name, text)
            each.__traceback__ = _traceback(frames)
            if place and is_cause:
                before.__cause__ = each
            elif place:
                before.__context__ = each
            before = each
    except Exception:  # noqa: BLE001  it came from another process, and may be anything
        outermost.__traceback__ = None
    return outermost


def _of_name(path: str, message: str) -> BaseException:
    # No class can have a NUL or half of a surrogate pair in its name; the text may have both.
    module, _, name = plain(path).rpartition(".")
    attributes = {"__module__": module or "builtins", "__qualname__": name}
    kind: type[RetoldError] = type(name, (RetoldError,), attributes)
    return kind(_in_its_lines(message))


def _in_its_lines(message: str) -> str:
    # A line that begins in the first column could be taken for the log's own.
    return "\n    ".join(map(plain, message.split("\n")))


def _traceback(frames: Sequence[Sequence[Any]]) -> TracebackType | None:
    tb = None
    for file, line, function, module in reversed(frames):
        # -1: no instruction, or carets would be drawn below the wrong words of the line.
        tb = TracebackType(tb, _frame(file, function, module), -1, line)
    return tb


_ANY = compile("there.append(here())", "<retold>", "exec")


def _frame(file: str, function: str, module: str) -> FrameType:
    there: list[FrameType] = []
    qualified = plain(function)
    code = _ANY.replace(
        co_filename=plain(file), co_name=qualified.rpartition(".")[2], co_qualname=qualified
    )
    names = {"__name__": module, "there": there, "here": sys._getframe}  # noqa: SLF001
    # Trackers show a frame's local variables: this one has none.
    exec(code, names, {})  # noqa: S102  our own code, by another name
    return there[0]
