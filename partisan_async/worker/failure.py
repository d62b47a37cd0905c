"""Turns an exception of a run into a ``Failure``, the plain data that the row keeps."""

from __future__ import annotations

import concurrent.futures
import os
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import asgiref

from partisan_async.exceptions import CancelTask, PostponeTask, TaskCancelled
from partisan_async.policy import CancelAsked, Chain, Failure, class_path
from partisan_async.text.masked import without
from partisan_async.text.printable import storable
from partisan_async.text.retold import MESSAGE_LENGTH, NAME_LENGTH, chain_of, message_of

TRACEBACK_LENGTH = 20_000

_PACKAGE = Path(__file__).parents[1]
_OWN = tuple(
    f"{folder}{os.sep}"
    for folder in (
        _PACKAGE / "worker",
        _PACKAGE / "django_tasks",
        _PACKAGE / "enqueue" / "parameters",
        Path(asgiref.__file__).parent,  # the way from an async run to the database's thread
        Path(concurrent.futures.__file__).parent,
    )
)
"""Folders whose frames are left out at the start of a traceback: users need not see how ``run()``
was called, or its arguments were read."""


def failure_of(error: BaseException, secrets: Sequence[str] = ()) -> Failure:
    """Return what the row keeps of an error.

    :param secrets: texts to mask.
    """
    chain: Chain = ()
    try:
        tb = error.__traceback__
        while tb is not None and tb.tb_frame.f_code.co_filename.startswith(_OWN):
            tb = tb.tb_next
        lines = traceback.format_exception(type(error), error, tb)
        chain = chain_of(error, tb, secrets)
    except BaseException:  # noqa: BLE001  methods of the error's class may raise anything
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
    """Return why a run postponed itself: its reason, and the error that caused it, if any.

    :param secrets: texts to mask.
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
