"""An exception of a run as the row tells it: a ``Failure``, which is plain data."""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from partisan_async.exceptions import CancelTask, PostponeTask, TaskCancelled
from partisan_async.policy import CancelAsked, Chain, Failure, class_path
from partisan_async.text.masked import without
from partisan_async.text.printable import storable
from partisan_async.text.retold import MESSAGE_LENGTH, NAME_LENGTH, chain_of, message_of

TRACEBACK_LENGTH = 20_000

_ROOM = Path(__file__).parent
_OWN = tuple(f"{folder}{os.sep}" for folder in (_ROOM, _ROOM.with_name("django_tasks")))
"""Folders whose frames are left out at the outer end of a traceback: no user needs to see how
``run()`` was called."""


def failure_of(error: BaseException, secrets: Sequence[str] = ()) -> Failure:
    """Return what the row tells about an error that was raised.

    :param secrets: texts that are masked in it.
    """
    chain: Chain = ()
    try:
        tb = error.__traceback__
        while tb is not None and tb.tb_frame.f_code.co_filename.startswith(_OWN):
            tb = tb.tb_next
        lines = traceback.format_exception(type(error), error, tb)
        chain = chain_of(error, tb, secrets)
    except BaseException:  # noqa: BLE001  its methods are the project's, and may raise anything
        lines = ["(no traceback: to format it raised)"]
    told = without(secrets, "".join(lines))
    if len(told) > TRACEBACK_LENGTH:
        told = f"(cut)\n{told[-TRACEBACK_LENGTH:]}"
    return Failure(
        exception_class=storable(class_path(error)[:NAME_LENGTH]),
        message=storable(message_of(error, secrets)),
        traceback=storable(told),
        chain=chain,
    )


def why_postponed(error: PostponeTask, secrets: Sequence[str] = ()) -> Failure | None:
    """Return the reason for which a run postponed itself, and the error behind it, if any.

    :param secrets: texts that are masked in it.
    """
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    reason = storable(without(secrets, (error.reason or "").strip())[:MESSAGE_LENGTH])
    if cause is None:
        return Failure(class_path(error), reason) if reason else None
    told = failure_of(cause, secrets)
    if not reason:
        return told
    message = f"{reason} ({told.message})"[:MESSAGE_LENGTH] if told.message else reason
    return replace(told, message=message)


def cancelled(error: CancelTask, secrets: Sequence[str] = ()) -> CancelAsked:
    """Return the outcome of a run that cancelled its task, with the place where it did so.

    :param secrets: texts that are masked in it.
    """
    reason = storable(without(secrets, (error.reason or "").strip())[:MESSAGE_LENGTH])
    told = Failure.of(TaskCancelled(TaskCancelled.ITSELF, reason))
    return CancelAsked(replace(told, traceback=failure_of(error, secrets).traceback), reason)
