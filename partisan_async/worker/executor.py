"""Runs one task in this process: one claim in, one outcome out.

It writes to no row: the supervisor writes the outcome. For an ``ATOMIC`` task, ``atomic`` commits
the outcome together with the work.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from uuid import UUID

from asgiref.sync import sync_to_async

from partisan_async import logs, store
from partisan_async.claim import Attempt, Claim, Settlement
from partisan_async.context import CurrentTask, current_task
from partisan_async.enqueue import spans
from partisan_async.enqueue.parameters import parameters_of
from partisan_async.enqueue.sensitive import secrets_of
from partisan_async.policy import (
    RETURNED,
    CancelAsked,
    Finished,
    Outcome,
    Returned,
    Unrecognised,
    class_path,
)
from partisan_async.processor import BaseTaskProcessor
from partisan_async.settings import QueueSettings
from partisan_async.verdict import Verdicts
from partisan_async.worker.alarm import Alarm
from partisan_async.worker.async_limit import run_within
from partisan_async.worker.async_run import AsyncRun
from partisan_async.worker.atomic import run_atomic
from partisan_async.worker.loading import (
    NOTHING,
    processor_of,
    read_arguments,
    take_call,
    tell_start,
)
from partisan_async.worker.raised import outcome_of
from partisan_async.worker.result import returned
from partisan_async.worker.retrying import asks
from partisan_async.worker.under_limit import lacks_limit, limit_of
from partisan_async.worker.used_caches import close_caches


class Executor:
    """Runs claims of one supervisor in one process.

    :param settings: settings of the queue.
    :param worker_id: name of the process on task rows.
    """

    def __init__(self, supervisor_id: UUID, settings: QueueSettings, worker_id: str) -> None:
        self.settings = settings
        self._verdicts = Verdicts(settings)
        self._supervisor_id = supervisor_id
        self._worker_id = worker_id
        self._pid = os.getpid()

    def execute(self, claim: Claim, alarm: Alarm | None = None) -> Outcome:
        """Run a task with a plain ``run()``. An error of it ends the task, not the process."""
        processor, encoded = None, claim.arguments
        began = time.monotonic()
        self._enter(claim)
        try:
            with spans.running(claim) as span:
                try:
                    with alarm or nullcontext():
                        if encoded is None:
                            encoded = read_arguments(self._supervisor_id, claim)
                        made = processor_of(claim, encoded)
                        if lacks_limit(claim, type(made)) and (under := limit_of(claim, encoded)):
                            return under
                        processor = made
                        if processor._is_heard():  # noqa: SLF001  its other half
                            tell_start(claim, processor)
                        if not processor.ATOMIC:
                            outcome: Outcome = self._run(claim, processor)
                    if processor.ATOMIC:
                        outcome = self._run_atomic(claim, processor, alarm)
                except BaseException as caught:  # noqa: BLE001  SystemExit and StopIteration too
                    error = alarm.explain(caught) if alarm else caught
                    secrets = secrets_of(claim.processor_class, encoded)
                    outcome = self._outcome(claim, error, secrets, processor, began)
                    spans.failed(span, error, class_path(error), secrets)
                    self._tell_end(processor, claim, outcome)
                    return outcome
                self._tell_end(processor, claim, outcome)
                return outcome
        finally:
            close_caches(claim)

    async def aexecute(self, claim: Claim, limit: float | None = None) -> Outcome:
        """Run a task with an ``async def run()``.

        :param limit: time limit in seconds, after which it gets ``TaskTimeout``; ``None``: none.
        """
        began = time.monotonic()
        self._enter(claim)
        run = AsyncRun(claim, self._supervisor_id, self.settings.MAX_RESULT_BYTES)
        with spans.running(claim) as span:
            error = await run_within(limit, run())
            outcome: Outcome = run.outcome
            if error is not None:
                secrets = secrets_of(claim.processor_class, run.encoded)
                looked_at = (claim, error, secrets, run.processor, began)
                if asks(claim.processor_class):
                    outcome = await sync_to_async(self._outcome)(*looked_at)
                else:
                    outcome = self._outcome(*looked_at)
                spans.failed(span, error, class_path(error), secrets)
            if run.processor is not None and _is_heard(run.processor, outcome):
                tell = sync_to_async(self._tell_end)
                try:
                    if error is not None:
                        raise error
                except BaseException:  # noqa: BLE001  receivers may call sys.exception()
                    await tell(run.processor, claim, outcome)
                else:
                    await tell(run.processor, claim, outcome)
        return outcome

    def end_forks(self) -> None:
        """Exit in a child that a task forked, and that returned from ``run()``."""
        if os.getpid() != self._pid:
            os._exit(0)

    def _enter(self, claim: Claim) -> None:
        pk, claim_seq, queue_name, processor_class = claim[:4]
        current_task.set(CurrentTask(pk, claim_seq, processor_class, queue_name, self._worker_id))

    def _run(self, claim: Claim, processor: BaseTaskProcessor) -> Returned:
        try:
            parameters = parameters_of(type(processor))
            call = NOTHING if parameters is None else take_call(claim, processor, parameters)
            if call is None:
                return RETURNED
            result = processor.run(*call[0], **call[1])
        finally:
            self.end_forks()  # else a child would end its parent's ATOMIC transaction
        return returned(processor, result, self.settings.MAX_RESULT_BYTES)

    def _run_atomic(
        self, claim: Claim, processor: BaseTaskProcessor, alarm: Alarm | None
    ) -> Returned:
        def run() -> Returned:
            with alarm or nullcontext():
                return self._run(claim, processor)

        def settle(outcome: Returned, seconds: float) -> store.Statement:
            # Not by the policy, which may raise: this settle must commit the work.
            finished = Finished(outcome.result)
            attempt = Attempt(seconds, self._worker_id)
            return self._end(Settlement(claim, finished, attempt, processor.STORE_RESULT))

        return run_atomic(claim, run, settle)

    # The testing kit overrides the next two.

    def _outcome(
        self,
        claim: Claim,
        error: BaseException,
        secrets: Sequence[str],
        processor: BaseTaskProcessor | None,
        began: float,
    ) -> Outcome:
        return outcome_of(claim, error, secrets, processor, time.monotonic() - began)

    def _end(self, settlement: Settlement) -> store.Statement:
        delete = self.settings.DELETE_TASKS_ON_COMPLETE and not settlement.stores_result
        return store.settle_within(self._supervisor_id, settlement, delete=delete)

    def _tell_end(
        self, processor: BaseTaskProcessor | None, claim: Claim, outcome: Outcome
    ) -> None:
        if processor is None or not _is_heard(processor, outcome):
            return
        if isinstance(outcome, Unrecognised):  # nothing ran: the supervisor sends the signals
            return
        try:
            verdict = self._verdicts.settlement(claim, outcome, None)
            processor._tell_end(verdict.decision)  # noqa: SLF001
        except Exception as error:  # noqa: BLE001  signals must not change the outcome
            logs.outcomes.untold(claim, error)


def _is_heard(processor: BaseTaskProcessor, outcome: Outcome) -> bool:
    """Tell whether anybody may be told of a run's end; of a cancel they are asked for by it."""
    return processor._is_heard() or isinstance(outcome, CancelAsked)  # noqa: SLF001
