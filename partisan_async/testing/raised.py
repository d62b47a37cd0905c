"""Keeps the errors of tasks, and raises them in the test, so that no failure passes unseen."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils import timezone

from partisan_async.claim import Claim, Settlement
from partisan_async.exceptions import MaxPostponesReached, PostponeTask
from partisan_async.models import Task
from partisan_async.policy import Decision, Failed, Outcome, class_path
from partisan_async.settings import QueueSettings
from partisan_async.store import Statement
from partisan_async.testing.clock import as_of
from partisan_async.text.retold import rebuilt
from partisan_async.worker.executor import Executor


class Witness(Executor):
    """An executor that keeps the exception of its run.

    :param moment: time of the end that an ``ATOMIC`` run writes to its row; ``None``: now.
    """

    def __init__(
        self, me: UUID, settings: QueueSettings, worker_id: str, moment: datetime | None
    ) -> None:
        super().__init__(me, settings, worker_id)
        self.raised: BaseException | None = None
        self._moment = moment

    def _outcome(self, claim: Claim, error: BaseException, *about: Any) -> Outcome:
        self.raised = error
        return super()._outcome(claim, error, *about)

    def _end(self, settlement: Settlement) -> Statement:
        return as_of(super()._end(settlement), self._moment or timezone.now())


class Errors:
    """The errors of tasks that ended in ``error``, by task."""

    def __init__(self) -> None:
        self._errors: dict[int, BaseException] = {}

    def note(self, task: Task, decision: Decision, raised: BaseException | None) -> None:
        """Note the outcome of a run; it replaces that of the task's run before."""
        self._errors.pop(task.pk, None)
        if isinstance(decision, Failed):
            error = _of(decision, raised)
            error.add_note(f"Raised by {task}.")
            self._errors[task.pk] = error

    def raise_all(self) -> None:
        """Raise all errors together, if there are any."""
        if errors := list(self._errors.values()):
            message = (
                f"{len(errors)} task{'' if len(errors) == 1 else 's'} ended in error; if that is"
                ' what you test, pass errors="keep"'
            )
            raise BaseExceptionGroup(message, errors)


def _of(failed: Failed, raised: BaseException | None) -> BaseException:
    """Return the exception that the row names."""
    name = failed.failure.exception_class
    for each in (raised, raised and raised.__cause__):
        if each is not None and class_path(each) == name:
            return each
    if isinstance(raised, PostponeTask):
        error = MaxPostponesReached.__new__(MaxPostponesReached)
        error.args = (failed.failure.message,)
        error.__cause__ = raised
        return error
    return rebuilt(failed.failure)
