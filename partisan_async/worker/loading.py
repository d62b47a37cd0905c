"""Makes the processor of a claim, and decodes the arguments of its ``run()``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
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

T = TypeVar("T")

RunCall = tuple[tuple[Any, ...], dict[str, Any]]
"""What ``run()`` is called with."""

NOTHING: RunCall = ((), {})
"""The call of a ``run()`` without parameters."""

_decode = json.JSONDecoder().raw_decode
"""Takes half the time of ``json.loads()``. It allows no leading blank; PostgreSQL writes none."""


def read_arguments(me: UUID, claim: Claim) -> str:
    """Read the arguments of a claim; large ones are not sent with it.

    :param me: the supervisor that has the claim.
    :raises ClaimLost: the supervisor has lost the claim.
    :raises SessionLost: the session with the database was lost.
    """
    with before_run():
        for (arguments,) in fetch(*store.arguments_of(me, claim)):
            return str(arguments)
    raise ClaimLost(claim.id)


def processor_of(claim: Claim, encoded: str) -> BaseTaskProcessor:
    """Return the processor of a claim.

    :param encoded: the claim's arguments.
    :raises ProcessorClassNotFound: the class is not registered in this process.
    :raises TypeError: the arguments do not have the form that ``delay()`` writes.
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

    :param claimed: makes the row that the processor sees.
    """
    processor = processor_class(*encoded["args"], **encoded["kwargs"])
    processor._claimed = claimed  # noqa: SLF001  its other half
    processor.__dict__.pop("task_obj", None)  # its __init__ may have looked
    return processor


def tell_start(claim: Claim, processor: BaseTaskProcessor) -> None:
    """Tell that a run begins, unless its call does not fit: nothing would tell of its end.

    :raises ArgumentsDoNotFit: it does not.
    """
    # No rows are fetched here: an ATOMIC run gets them in its own transaction.
    if (parameters := parameters_of(type(processor))) is not None:
        _read(claim, processor, parameters.require_fit)
    processor._tell_start()  # noqa: SLF001  its other half


def take_call(claim: Claim, processor: BaseTaskProcessor, parameters: Parameters) -> RunCall | None:
    """Decode the call for ``run()``, into ``args`` and ``kwargs``, and return it.

    ``None``: a model instance is gone, and ``ON_MISSING`` is ``"finish"``.

    :param parameters: the parameters of ``run()``.
    :raises ArgumentsDoNotFit: ``run()`` does not take the row's values.
    :raises RowMissing: a model instance is gone, and ``ON_MISSING`` is ``"error"``.
    :raises SessionLost: the session with the database was lost.
    """
    try:
        with before_run():
            call = _read(claim, processor, parameters.decode)
    except RowMissing as missing:
        if processor.ON_MISSING != "finish":
            raise
        logs.outcomes.row_missing(claim, missing.model)
        return None
    processor.args, processor.kwargs = call
    return call


def _read(claim: Claim, processor: BaseTaskProcessor, read: Callable[[Stored], T]) -> T:
    try:
        return read(Stored(list(processor.args), processor.kwargs))
    except ArgumentsDoNotFit as misfit:
        misfit.task_id = claim.id  # else it is one that run() came upon, and an error of the run
        raise
