"""Runs one task in this process: one claim in, one outcome out. Writes no row."""

from __future__ import annotations

import inspect
import json
import math
import re
import traceback
from contextlib import nullcontext
from functools import cache, partial
from typing import Any

from partisan_async import registry, store
from partisan_async.exceptions import PostponeTask, ProcessorClassNotFound
from partisan_async.models import Task
from partisan_async.policy import (
    Failure,
    Outcome,
    PostponeAsked,
    Raised,
    Returned,
    Unrecognised,
    class_path,
)
from partisan_async.processor import BaseTaskProcessor, load
from partisan_async.supervisor.limits import Alarm, run_within

_COLUMNS = [
    field.attname
    for field in Task._meta.concrete_fields  # noqa: SLF001  documented API in spite of its name
    if field.attname in {*store.Claim._fields, "status"}
]

NAME_LENGTH = 255
MESSAGE_LENGTH = 4_000
TRACEBACK_LENGTH = 20_000


@cache
def is_async(processor_class: type[BaseTaskProcessor]) -> bool:
    """Tell whether ``run()`` is ``async def``."""
    return inspect.iscoroutinefunction(processor_class.run)


def time_limit(claim: store.Claim, default: float | None) -> float | None:
    """Return how many seconds a task may take; ``None``: as long as it likes.

    :param default: the queue's, for processors that have none of their own.
    """
    own = registry.get(claim.processor_class).TIMEOUT_SECONDS
    limit = default if own is None else own
    return None if limit is None or math.isinf(limit) else limit


def execute(claim: store.Claim, alarm: Alarm | None = None) -> Outcome:
    """Run a task with a plain ``run()``. Whatever it raises ends the task and not the process."""
    try:
        with alarm or nullcontext():
            _refuse_unstarted(_processor(claim).run())
    except BaseException as error:  # noqa: BLE001  SystemExit and StopIteration too
        return _outcome(claim, alarm.explain(error) if alarm else error)
    return Returned()


async def aexecute(claim: store.Claim, limit: float | None = None) -> Outcome:
    """Run a task with an ``async def run()``, for so many seconds at most."""
    error = await run_within(limit, _arun(claim))
    return Returned() if error is None else _outcome(claim, error)


async def _arun(claim: store.Claim) -> None:
    await _processor(claim).run()


def _processor(claim: store.Claim) -> BaseTaskProcessor:
    processor_class = registry.get(claim.processor_class)
    arguments = json.loads(claim.arguments)
    if not (
        isinstance(arguments, dict)
        and isinstance(arguments.get("args"), list)
        and isinstance(arguments.get("kwargs"), dict)
    ):
        raise TypeError(
            'The row\'s arguments are not {"args": […], "kwargs": {…}} any more; somebody changed'
            " them by hand. Enqueue the call anew."
        )
    return load(processor_class, arguments, partial(_row, claim, arguments))


def _row(claim: store.Claim, arguments: dict[str, Any]) -> Task:
    # The columns that were not claimed are deferred: Django reads them when they are asked for.
    fields = {**claim._asdict(), "arguments": arguments, "status": Task.STATUS_IN_PROCESS}
    return Task.from_db(store.database(), _COLUMNS, [fields[name] for name in _COLUMNS])


def _refuse_unstarted(result: Any) -> None:
    if inspect.iscoroutine(result) or inspect.isgenerator(result) or inspect.isasyncgen(result):
        if not inspect.isasyncgen(result):
            result.close()
        raise TypeError(
            f"run() returned a {type(result).__name__} that nobody runs; write it as `def"
            " run(self)` or `async def run(self)`, with no `yield` and no decorator that hides it."
        )


def _outcome(claim: store.Claim, error: BaseException) -> Outcome:
    match error:
        case PostponeTask():
            return PostponeAsked(error.postpone_for_seconds)
        case ProcessorClassNotFound(processor_name=claim.processor_class):
            return Unrecognised(claim.processor_class)
    config = registry.get(claim.processor_class).RETRY_ON_ERROR_CONFIG
    return Raised(_describe(error), config is not None and config.retries(error))


def _describe(error: BaseException) -> Failure:
    try:
        message = str(error)
    except BaseException:  # noqa: BLE001  a __str__ that raises must not end the worker
        message = "(its __str__ raised)"
    try:
        # The first frame is this module's own.
        tb = error.__traceback__ and error.__traceback__.tb_next
        lines = traceback.format_exception(type(error), error, tb)
    except BaseException:  # noqa: BLE001
        lines = ["(no traceback: to format it raised)"]
    trace = "".join(lines)
    if len(trace) > TRACEBACK_LENGTH:
        trace = f"(cut)\n{trace[-TRACEBACK_LENGTH:]}"
    return Failure(
        exception_class=_storable(class_path(error)[:NAME_LENGTH]),
        message=_storable(message[:MESSAGE_LENGTH]),
        traceback=_storable(trace),
    )


def _storable(text: str) -> str:
    """Return the text without what PostgreSQL cannot hold: NUL and halves of surrogate pairs."""
    return re.sub("[\x00\ud800-\udfff]", "\ufffd", text)
