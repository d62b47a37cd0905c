"""Makes the processor of a claim, ready to run, and the call that its ``run()`` gets."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from partisan_async import logs, registry, store
from partisan_async.claim import Claim
from partisan_async.enqueue.parameters import Stored, parameters_of
from partisan_async.enqueue.run import fetch
from partisan_async.exceptions import ArgumentsDoNotFit, ClaimLost, RowMissing
from partisan_async.models import Task
from partisan_async.processor import BaseTaskProcessor
from partisan_async.worker.cut_off import before_run
from partisan_async.worker.row import row_of

if TYPE_CHECKING:
    from partisan_async.enqueue.parameters.parameters import Parameters

RunCall = tuple[tuple[Any, ...], dict[str, Any]]
"""What ``run()`` is called with."""

NOTHING: RunCall = ((), {})
"""The call of a ``run()`` without parameters."""

_decode = json.JSONDecoder().raw_decode
"""Takes half the time of ``json.loads()``; there is no blank around what PostgreSQL writes."""


def read_arguments(me: UUID, claim: Claim) -> str:
    """Return the arguments of a claim that came without them, being large.

    :param me: the supervisor whose claim it is.
    :raises ClaimLost: it is not its claim any more.
    :raises SessionLost: the database could not be asked.
    """
    with before_run():
        for (arguments,) in fetch(*store.arguments_of(me, claim)):
            return str(arguments)
    raise ClaimLost(claim.id)


def processor_of(claim: Claim, encoded: str) -> BaseTaskProcessor:
    """Return the processor of a claim.

    :param encoded: its arguments.
    :raises ProcessorClassNotFound: this process does not know it.
    :raises TypeError: the arguments are not of the kind that ``delay()`` writes.
    """
    processor_class = registry.get(claim.processor_class)
    arguments, _ = _decode(encoded)
    if not (
        isinstance(arguments, dict)
        and isinstance(arguments.get("args"), list)
        and isinstance(arguments.get("kwargs"), dict)
    ):
        raise TypeError(
            'The row\'s arguments are not {"args": […], "kwargs": {…}} any more; somebody changed'
            " them by hand. Enqueue the call anew."
        )
    return load(processor_class, arguments, partial(row_of, claim, arguments))


def load(
    processor_class: type[BaseTaskProcessor],
    encoded: Mapping[str, Any],
    claimed: Callable[[], Task],
) -> BaseTaskProcessor:
    """Return a processor of a claimed row, ready to run.

    :param claimed: makes the row that it is to see.
    """
    processor = processor_class(*encoded["args"], **encoded["kwargs"])
    processor._claimed = claimed  # noqa: SLF001  its other half
    processor.__dict__.pop("task_obj", None)  # its __init__ may have looked
    return processor


def tell_start(claim: Claim, processor: BaseTaskProcessor) -> None:
    """Tell that a run begins, unless its call does not fit: then nobody would tell of its end.

    :raises ArgumentsDoNotFit: it does not.
    """
    # No rows are fetched here: an ATOMIC run gets them in its own transaction.
    if (parameters := parameters_of(type(processor))) is not None:
        try:
            parameters.require_fit(_stored(processor))
        except ArgumentsDoNotFit as misfit:
            misfit.task_id = claim.id
            raise
    processor._tell_start()  # noqa: SLF001  its other half


def take_call(claim: Claim, processor: BaseTaskProcessor, parameters: Parameters) -> RunCall | None:
    """Give a processor its call as ``run()`` gets it, and return that.

    ``None``: a row that was passed is gone, and the processor takes that for an end.

    :param parameters: of its ``run()``.
    :raises ArgumentsDoNotFit: the row's values are not what it takes.
    :raises RowMissing: a model instance that was passed is gone.
    :raises SessionLost: the database could not be asked for one.
    """
    try:
        with before_run():
            call = parameters.decode(_stored(processor))
    except ArgumentsDoNotFit as misfit:
        misfit.task_id = claim.id  # else it is one that run() came upon, and an error of the run
        raise
    except RowMissing as missing:
        if processor.ON_MISSING != "finish":
            raise
        logs.outcomes.row_missing(claim, missing.model)
        return None
    processor.args, processor.kwargs = call
    return call


def _stored(processor: BaseTaskProcessor) -> Stored:
    return Stored(list(processor.args), processor.kwargs)
