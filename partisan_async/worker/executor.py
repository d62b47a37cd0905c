"""Runs one task in this process: one claim in, one outcome out.

Writes no row but the end of an ``ATOMIC`` run.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.core.cache import caches
from django.db import connections, transaction

from partisan_async import logs, registry, store
from partisan_async.claim import Claim, Settlement
from partisan_async.context import CurrentTask, current_task
from partisan_async.enqueue import spans
from partisan_async.enqueue.arguments import encode_result
from partisan_async.exceptions import (
    ClaimLost,
    PostponeTask,
    ProcessorClassNotFound,
    ResultTooLarge,
)
from partisan_async.models import Task
from partisan_async.policy import (
    RETURNED,
    Chain,
    CutOff,
    Decision,
    Failure,
    Finished,
    Outcome,
    PostponeAsked,
    Raised,
    Returned,
    Unrecognised,
    class_path,
    decide,
)
from partisan_async.processor import BaseTaskProcessor, load, rules_of
from partisan_async.settings import QueueSettings
from partisan_async.text import moments
from partisan_async.text.printable import storable
from partisan_async.text.retold import MESSAGE_LENGTH, NAME_LENGTH, chain_of, message_of
from partisan_async.worker import limits
from partisan_async.worker.cut_off import SessionLost, before_run, transaction_of
from partisan_async.worker.limits import Alarm, run_within


def _in_order(names: set[str]) -> list[str]:
    fields = Task._meta.concrete_fields  # noqa: SLF001  documented API in spite of its name
    return [field.attname for field in fields if field.attname in names]


_COLUMNS = _in_order({*Claim._fields, "status"})
_UNENDED = ("finished_at", "last_attempted_at", "result")
_COLUMNS_WITH_HISTORY = _in_order({*_COLUMNS, *store.HISTORY, *_UNENDED})

_OWN_FILES = (
    __file__,
    limits.__file__,
    # Not imported: without Django's task API it cannot be.
    str(Path(registry.__file__).with_name("django_tasks") / "processors.py"),
)
"""No user needs to see how ``run()`` was called."""

_decode = json.JSONDecoder().raw_decode
"""Takes half the time of ``json.loads()``; there is no blank around what PostgreSQL writes."""

TRACEBACK_LENGTH = 20_000


@cache
def is_async(processor_class: type[BaseTaskProcessor]) -> bool:
    """Tell whether ``run()`` is ``async def``."""
    return inspect.iscoroutinefunction(processor_class.run)


def time_limit(processor_class: type[BaseTaskProcessor], default: float | None) -> float | None:
    """Return how many seconds ``run()`` may take; ``None``: as long as it likes.

    :param default: the queue's, for processors that have none of their own.
    """
    own = processor_class.TIMEOUT_SECONDS
    limit = default if own is None else own
    return None if limit is None or math.isinf(limit) else limit


class Executor:
    """Runs claims of one supervisor in one process.

    :param settings: the queue's.
    :param worker_id: names the process on rows.
    """

    def __init__(self, supervisor_id: UUID, settings: QueueSettings, worker_id: str) -> None:
        self.settings = settings
        self._supervisor_id = supervisor_id
        self._worker_id = worker_id
        self._pid = os.getpid()

    def execute(self, claim: Claim, alarm: Alarm | None = None) -> Outcome:
        """Run a task with a plain ``run()``. What it raises ends the task and not the process."""
        try:
            return self._execute(claim, alarm)
        finally:
            _close_caches(claim)

    def _execute(self, claim: Claim, alarm: Alarm | None) -> Outcome:
        processor = None
        self._enter(claim)
        with spans.running(claim) as span:
            try:
                with alarm or nullcontext():
                    processor = _processor(claim, self._arguments(claim))
                    if processor._is_heard():  # noqa: SLF001  its other half
                        processor._tell_start()  # noqa: SLF001
                    if not processor.ATOMIC:
                        result = self._result(processor, self._run(processor))
                        outcome: Outcome = _returned(result)
                if processor.ATOMIC:
                    outcome = self._run_atomic(claim, processor, alarm)
            except BaseException as raised:  # noqa: BLE001  SystemExit and StopIteration too
                error = alarm.explain(raised) if alarm else raised
                outcome = self._outcome(claim, error)
                spans.failed(span, error, class_path(error))
                self._tell_end(processor, claim, outcome)
                return outcome
            self._tell_end(processor, claim, outcome)
            return outcome

    async def aexecute(self, claim: Claim, limit: float | None = None) -> Outcome:
        """Run a task with an ``async def run()``, for so many seconds at most."""
        self._enter(claim)
        run = _AsyncRun(claim, self._arguments, self._result)
        with spans.running(claim) as span:
            error = await run_within(limit, run())
            outcome = self._outcome(claim, error) if error else _returned(run.result)
            if error is not None:
                spans.failed(span, error, class_path(error))
            if run.processor is not None and run.processor._is_heard():  # noqa: SLF001
                tell = sync_to_async(self._tell_end)
                try:
                    if error is not None:
                        raise error
                except BaseException:  # noqa: BLE001  receivers may ask for it
                    await tell(run.processor, claim, outcome)
                else:
                    await tell(run.processor, claim, outcome)
        return outcome

    def end_forks(self) -> None:
        """End this process where a task forked it: a child comes back from ``run()`` too."""
        if os.getpid() != self._pid:
            os._exit(0)

    def _enter(self, claim: Claim) -> None:
        pk, claim_seq, queue_name, processor_class = claim[:4]
        current_task.set(CurrentTask(pk, claim_seq, processor_class, queue_name, self._worker_id))

    def _arguments(self, claim: Claim) -> str:
        if claim.arguments is not None:
            return claim.arguments
        with before_run(), connections[store.database()].cursor() as cursor:
            cursor.execute(*store.arguments_of(self._supervisor_id, claim))
            for (arguments,) in cursor.fetchall():
                return str(arguments)
        raise ClaimLost(claim.id)

    def _run(self, processor: BaseTaskProcessor) -> Any:
        try:
            return processor.run()
        finally:
            self.end_forks()  # in ATOMIC a child would end its parent's transaction

    def _result(self, processor: BaseTaskProcessor, result: Any) -> str | None:
        """Return what is kept of what ``run()`` returned."""
        _refuse_unstarted(result)
        if result is None or not processor.STORE_RESULT:
            return None
        encoded = encode_result(result)  # in ASCII
        if len(encoded) > (most := self.settings.MAX_RESULT_BYTES):
            raise ResultTooLarge(type(processor).__name__, len(encoded), most)
        return encoded

    def _run_atomic(
        self, claim: Claim, processor: BaseTaskProcessor, alarm: Alarm | None
    ) -> Returned:
        """Run it in one transaction with its own settle: both are there, or neither."""
        alias = store.database()
        result: str | None = None
        committed: list[bool] = []
        began = time.monotonic()
        try:
            with transaction_of(alias):
                transaction.on_commit(partial(committed.append, True), using=alias)
                with alarm or nullcontext():
                    result = self._result(processor, self._run(processor))
                ran = (time.monotonic() - began, self._worker_id)
                settlement = Settlement(claim, Finished(result), ran, processor.STORE_RESULT)
                with connections[alias].cursor() as cursor:
                    cursor.execute(*self._end(settlement))
                    if not cursor.fetchall():
                        raise ClaimLost(claim.id)
        except BaseException as error:
            if not committed:
                raise
            # It came from what run() left for on_commit(): the row has ended, and stays so.
            logs.callbacks.failed_after_commit(claim, error)
        return Returned(result, settled=True)

    # The two that the testing kit lays its own over.

    def _outcome(self, claim: Claim, error: BaseException) -> Outcome:
        match error:
            case PostponeTask():
                return PostponeAsked(error.postpone_for_seconds, _why_postponed(error))
            case ProcessorClassNotFound(processor_name=claim.processor_class):
                return Unrecognised(claim.processor_class)
            case SessionLost():
                return CutOff(_describe(error.__cause__ or error), error.begun)
        config = registry.get(claim.processor_class).RETRY_ON_ERROR_CONFIG
        return Raised(_describe(error), config is not None and config.retries(error))

    def _end(self, settlement: Settlement) -> store.Statement:
        delete = self.settings.DELETE_TASKS_ON_COMPLETE and not settlement.stores_result
        return store.settle_within(self._supervisor_id, settlement, delete=delete)

    def _tell_end(
        self, processor: BaseTaskProcessor | None, claim: Claim, outcome: Outcome
    ) -> None:
        if processor is None or not processor._is_heard():  # noqa: SLF001
            return
        try:
            rules = rules_of(claim.processor_class, self.settings)
            processor._tell_end(decide(outcome, rules, claim))  # noqa: SLF001
        except Exception as error:  # noqa: BLE001  what is told changes nothing
            logs.outcomes.untold(claim, error)


class _AsyncRun:
    def __init__(
        self,
        claim: Claim,
        arguments: Callable[[Claim], str],
        result: Callable[[BaseTaskProcessor, Any], str | None],
    ) -> None:
        self.processor: BaseTaskProcessor | None = None
        self.result: str | None = None
        self._claim = claim
        self._arguments = arguments
        self._result = result

    async def __call__(self) -> None:
        try:
            await self._run()
        finally:
            _close_caches(self._claim)

    async def _run(self) -> None:
        encoded = self._claim.arguments
        if encoded is None:
            encoded = await sync_to_async(self._arguments)(self._claim)
        self.processor = processor = _processor(self._claim, encoded)
        if processor.ATOMIC:
            raise TypeError(
                "ATOMIC needs a plain `def run(self)`: Django has no transactions in async code."
            )
        if processor._is_heard():  # noqa: SLF001
            await sync_to_async(processor._tell_start)()  # noqa: SLF001
        self.result = self._result(processor, await processor.run())


def tell_of_loss(
    processor_class: type[BaseTaskProcessor], claim: Claim, decision: Decision
) -> None:
    """Send the signals of an end that no worker has seen; for a thread of its own."""
    try:
        arguments = None if claim.arguments is None else json.loads(claim.arguments)
        processor_class._tell_loss(_row(claim, arguments), decision)  # noqa: SLF001
    finally:
        connections.close_all()


def _close_caches(claim: Claim) -> None:
    # In the run's own context: that is where Django keeps those that the run used.
    for used in caches.all(initialized_only=True):
        try:
            used.close()
        except Exception as error:  # noqa: BLE001  it is not the task's
            logs.callbacks.cache_not_closed(claim, error)


def _processor(claim: Claim, encoded: str) -> BaseTaskProcessor:
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
    return load(processor_class, arguments, partial(_row, claim, arguments))


def _row(claim: Claim, arguments: dict[str, Any] | None) -> Task:
    # The columns that were not claimed are deferred: Django reads them when they are asked for.
    fields = {**claim._asdict(), "arguments": arguments, "status": Task.STATUS_IN_PROCESS}
    columns = _COLUMNS
    alias = store.database()
    if claim.history is not None:
        created_at, started_at, worker_ids, errors = json.loads(claim.history)
        columns = _COLUMNS_WITH_HISTORY
        fields |= dict.fromkeys(_UNENDED) | {
            "created_at": moments.read(created_at, alias),
            "started_at": started_at and moments.read(started_at, alias),
            "worker_ids": worker_ids,
            "errors": errors,
        }
    if arguments is None:
        columns = [name for name in columns if name != "arguments"]
    return Task.from_db(alias, columns, [fields[name] for name in columns])


def _returned(result: str | None) -> Returned:
    return RETURNED if result is None else Returned(result)


def _refuse_unstarted(result: Any) -> None:
    if inspect.iscoroutine(result) or inspect.isgenerator(result) or inspect.isasyncgen(result):
        if not inspect.isasyncgen(result):
            result.close()
        raise TypeError(
            f"run() returned a {type(result).__name__} that nobody runs; write it as `def"
            " run(self)` or `async def run(self)`, with no `yield` and no decorator that hides it."
        )


def _why_postponed(error: PostponeTask) -> Failure | None:
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    reason = storable(error.reason[:MESSAGE_LENGTH]) if error.reason else ""
    if cause is None:
        return Failure(class_path(error), reason) if reason else None
    told = _describe(cause)
    if not reason:
        return told
    message = f"{reason} ({told.message})"[:MESSAGE_LENGTH] if told.message else reason
    return replace(told, message=message)


def _describe(error: BaseException) -> Failure:
    chain: Chain = ()
    try:
        tb = error.__traceback__
        while tb is not None and tb.tb_frame.f_code.co_filename in _OWN_FILES:
            tb = tb.tb_next
        lines = traceback.format_exception(type(error), error, tb)
        chain = chain_of(error, tb)
    except BaseException:  # noqa: BLE001
        lines = ["(no traceback: to format it raised)"]
    told = "".join(lines)
    if len(told) > TRACEBACK_LENGTH:
        told = f"(cut)\n{told[-TRACEBACK_LENGTH:]}"
    return Failure(
        exception_class=storable(class_path(error)[:NAME_LENGTH]),
        message=storable(message_of(error)),
        traceback=storable(told),
        chain=chain,
    )
