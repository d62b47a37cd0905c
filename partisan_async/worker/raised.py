"""What an exception means that ended a run, or kept it from beginning: its outcome."""

from __future__ import annotations

from collections.abc import Sequence

from partisan_async import context
from partisan_async.claim import Claim
from partisan_async.exceptions import (
    ArgumentsDoNotFit,
    CancelTask,
    PostponeTask,
    ProcessorClassNotFound,
)
from partisan_async.models import Task
from partisan_async.policy import CutOff, Failure, Outcome, PostponeAsked, Unrecognised
from partisan_async.processor import BaseTaskProcessor
from partisan_async.worker.cut_off import SessionLost
from partisan_async.worker.failure import cancelled, failure_of, why_postponed
from partisan_async.worker.retrying import after_error
from partisan_async.worker.row import row_of


def outcome_of(
    claim: Claim,
    error: BaseException,
    secrets: Sequence[str],
    processor: BaseTaskProcessor | None,
    ran_seconds: float,
) -> Outcome:
    """Return the outcome of a run that raised this.

    :param secrets: texts that are masked in what is told of it.
    :param processor: ``None``: it could not be made.
    :param ran_seconds: how long the run took.
    """
    match error:
        case PostponeTask():
            why = why_postponed(error, secrets)
            whole_key = bool(error.whole_key)
            return PostponeAsked(error.postpone_for_seconds, why, context.stopping(), whole_key)
        case CancelTask():
            return cancelled(error, secrets)
        case (
            ProcessorClassNotFound(processor_name=claim.processor_class)
            | ArgumentsDoNotFit(task_id=claim.id)
        ):
            return Unrecognised(Failure.of(error))
        case SessionLost():
            return CutOff(failure_of(error.__cause__ or error, secrets), error.begun)

    def row() -> Task:
        made = None if processor is None else processor.task_obj
        return row_of(claim, None) if made is None else made

    return after_error(claim, error, secrets, row, ran_seconds)
