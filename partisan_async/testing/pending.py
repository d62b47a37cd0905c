"""Runs tasks in the test's own process and transaction, as a supervisor would."""

from __future__ import annotations

import contextvars
import dataclasses
import datetime
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal, cast
from unittest.mock import patch

from asgiref.sync import async_to_sync, sync_to_async
from django.db import IntegrityError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone
from psycopg.pq import TransactionStatus

from partisan_async import logs, registry, store
from partisan_async.claim import Attempt, Claim, Settlement
from partisan_async.declared import is_async
from partisan_async.enqueue.insert import enqueue
from partisan_async.enqueue.run import fetch, run
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.models import WAITING, Task
from partisan_async.policy import Decision, Finished, Outcome
from partisan_async.processor import checked_time
from partisan_async.settings import queue_settings
from partisan_async.testing.calls import call_of
from partisan_async.testing.clock import as_of
from partisan_async.testing.raised import Errors, Witness
from partisan_async.verdict import Verdicts
from partisan_async.worker.executor import Executor

if TYPE_CHECKING:
    from partisan_async.testing.calls import Target

WORKER_ID = "run_pending"
"""What rows call this process."""

MOST_MORE = 5_000
"""So many runs may come of others, at one moment."""

_TTL = datetime.timedelta(minutes=1)


@dataclasses.dataclass(frozen=True)
class Ran:
    """One run.

    :param task: the row after it.
    :param decision: what became of it; ``partisan_async.policy`` has the kinds.
    """

    task: Task
    decision: Decision


def run_pending(
    *,
    queue_name: str | None = None,
    until: datetime.datetime | None = None,
    errors: Literal["raise", "keep"] = "raise",
    most_more: int = MOST_MORE,
) -> list[Ran]:
    """Run all tasks that are due, in this process and transaction, and return what ran.

    Tasks that these enqueue, retry or postpone run too, as far as they are due by then. Policies
    are applied, rows written, and lines logged, as by a supervisor. What a task registers with
    ``on_commit()`` is called where it would be, also in a test's transaction.

    What is due, and from when pauses count, goes by ``timezone.now()``, so that ``time_machine``
    and ``freezegun`` move it. What was due when it was enqueued runs whatever the clock says.

    :param queue_name: one queue alone; ``None``: every queue.
    :param until: run what would be due by then, too, one after the other in the order of its time;
        pauses count from there. No clock is changed: what tasks ask for the time see the real one.
    :param errors: ``"keep"``: those of tasks are on their rows, and do not rise.
    :param most_more: so many runs may come of others: of tasks that these enqueue, and of those
        that run again; with ``until``, at each moment. More are taken for work without an end.
    :raises ExceptionGroup: at the end, where tasks ended in ``error``: what these raised. A try
        that is to run again is none of it.
    :raises ValueError: a parameter cannot be.
    :raises RuntimeError: there is no end: a task enqueues itself, or postpones itself by nothing.
    """
    until = checked_time("until", until)
    if errors not in ("raise", "keep"):
        raise ValueError(f'errors={errors!r}: pass "raise" or "keep".')
    if type(most_more) is not int or most_more < 0:
        raise ValueError(f"most_more={most_more!r}: pass a number of runs.")
    registry.autodiscover()
    bench = _Bench()
    growth = _Growth(bench.newest(), most_more)
    ran: list[Ran] = []
    moment = None
    while True:
        while claims := bench.claim_next(queue_name):
            for claim in claims:
                ran.append(bench.run(claim, moment))
                if growth.is_too_much(claim, moment):
                    bench.leave()
                    raise RuntimeError(growth.told(ran[-1].task))
        if until is None or (moment := bench.advance(queue_name, until)) is None:
            break
    bench.leave()
    if errors == "raise":
        bench.errors.rise()
    return ran


arun_pending = sync_to_async(run_pending)


def perform(
    target: Target, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> Ran:
    """Run one call once, in this process and transaction, whatever else waits, and leave no row.

    An error does not rise: ``decision`` says what would become of the task.

    :param target: a processor class, or one of Django's own tasks.
    """
    bench = _Bench()
    call = call_of(target, args, kwargs or {})._replace(digest=None)
    with transaction.atomic(using=bench.alias):  # or a supervisor beside it could be faster
        task = enqueue(call)
        (claim,) = bench.claim_only(task)
    try:
        return bench.run(claim, None)
    finally:
        Task.objects.using(bench.alias).filter(pk=task.pk).delete()
        bench.leave()


aperform = sync_to_async(perform)


class _Growth:
    """How many runs at one moment come of others: what goes on for ever is nothing but these.

    What waits at the beginning is finite, however much it is, and so is what each of it enqueues.

    :param newest: the last row that was there before.
    """

    def __init__(self, newest: int, most: int) -> None:
        self._newest = newest
        self._most = most
        self._more = 0
        self._seen: set[int] = set()
        self._moment: datetime.datetime | None = None

    def is_too_much(self, claim: Claim, moment: datetime.datetime | None) -> bool:
        """Count a run, and tell whether there are too many."""
        if moment != self._moment:
            self._moment, self._more = moment, 0
        self._more += claim.id > self._newest or claim.id in self._seen
        self._seen.add(claim.id)
        return self._more > self._most

    def told(self, last: Task) -> str:
        """Return what is wrong."""
        return (
            f"run_pending() has run more than {self._most:,} tasks that others enqueued, or that"
            f" ran before, and there is no end: the last was {last}. Does it enqueue itself, or"
            " postpone itself by 0 seconds? If there is an end, pass a larger most_more."
        )


class _Bench:
    """Where one call of the kit runs tasks: it claims and settles as a supervisor does."""

    def __init__(self) -> None:
        self.alias = store.database()
        self.errors = Errors()
        self._me = uuid.uuid4()

    def newest(self) -> int:
        """Return the number of the last row."""
        last = Task.objects.using(self.alias).order_by("-pk").values_list("pk", flat=True).first()
        return last or 0

    def claim_next(self, only: str | None) -> list[Claim]:
        """Claim one task that is due, by each queue's own order."""
        waiting = Task.objects.using(self.alias).filter(status__in=WAITING)
        names = [only] if only else waiting.values_list("queue_name", flat=True).distinct()
        for name in sorted(names):
            *_, pauses, _ = self._beat(name)
            self._execute(as_of(store.promote(name), timezone.now()))
            held = [processor for processor, holds in json.loads(pauses or "[]") if holds]
            claim = store.claim(self._me, name, 1, _TTL, store.Among(paused=held))
            if claims := store.claims(self._execute(claim)):
                return claims
        return []

    def claim_only(self, task: Task) -> list[Claim]:
        """Claim this one."""
        self._beat(task.queue_name)
        return store.claims(self._execute(store.claim_only(self._me, task.pk)))

    def advance(self, only: str | None, until: datetime.datetime) -> datetime.datetime | None:
        """Make the next scheduled task ready; return its time, ``None`` if none is due by then."""
        rows = self._execute(store.advance(only, until))
        return rows[0][0] if rows else None

    def run(self, claim: Claim, moment: datetime.datetime | None) -> Ran:
        """Run a claim, and settle it as if it were that moment; ``None``: it is now."""
        executor = self._executor(claim, moment)
        began = time.perf_counter()
        with self._patience_kept(), _contained():
            outcome = contextvars.copy_context().run(_run, executor, claim)
        verdicts = Verdicts(queue_settings(claim.queue_name))
        settlement = verdicts.settlement(claim, outcome, Attempt(0.0, WORKER_ID))
        decision = settlement.decision
        logs.tasks.settled(claim, decision, time.perf_counter() - began)
        if not (isinstance(decision, Finished) and decision.settled):
            self._settle(settlement, moment or timezone.now())
        if isinstance(decision, Finished):
            decision = Finished(decision.result)
        task = Task.objects.using(self.alias).get(pk=claim.id)
        self.errors.note(task, decision, executor.raised)
        return Ran(task, decision)

    def leave(self) -> None:
        """Remove what says that it is there."""
        run(*store.forget([self._me]), self.alias)

    def _executor(self, claim: Claim, moment: datetime.datetime | None) -> Witness:
        # A row that it deletes could not be shown.
        chosen = dataclasses.replace(
            queue_settings(claim.queue_name), DELETE_TASKS_ON_COMPLETE=False
        )
        return Witness(self._me, chosen, WORKER_ID, moment)

    def _settle(self, settlement: Settlement, moment: datetime.datetime) -> None:
        with self._patience_kept():
            try:
                with transaction.atomic(using=self.alias):
                    self._execute(as_of(store.settle(self._me, [settlement]), moment))
            except IntegrityError:  # an identical call waits by now
                gently = store.settle(self._me, [settlement], gently=True)
                self._execute(as_of(gently, moment))

    @contextmanager
    def _patience_kept(self) -> Iterator[None]:
        # In a test's transaction a settle's own would stay.
        ((patience,),) = self._execute(store.Statement("SHOW lock_timeout", {}))
        yield
        keep = "SELECT set_config('lock_timeout', %(patience)s, true)"
        self._execute(store.Statement(keep, {"patience": patience}))

    def _beat(self, queue_name: str) -> Sequence[Any]:
        beat = store.beat(
            self._me,
            hostname="",
            process="{}",
            queue_name=queue_name,
            ttl=_TTL,
            probe_channel="",
            nonce=None,
            known=(),
        )
        (seen,) = self._execute(beat)
        return cast("Sequence[Any]", seen)

    def _execute(self, statement: store.Statement) -> list[Any]:
        return fetch(*statement, self.alias)


def _run(executor: Executor, claim: Claim) -> Outcome:
    try:
        run_async = is_async(registry.get(claim.processor_class))
    except ProcessorClassNotFound:
        run_async = False
    return async_to_sync(executor.aexecute)(claim) if run_async else executor.execute(claim)


@contextmanager
def _contained() -> Iterator[None]:
    """In a test's transaction: let a run behave as if it were in none."""
    with ExitStack() as stack:
        for connection in connections.all(initialized_only=True):
            if connection.in_atomic_block:
                stack.enter_context(_apart(connection))
        yield


@contextmanager
def _apart(connection: BaseDatabaseWrapper) -> Iterator[None]:
    # An error of the database must not spoil what follows; and what was written stays, also if the
    # run fails later.
    savepoint = transaction.atomic(using=connection.alias)
    savepoint._from_testcase = True  # type: ignore[attr-defined]  # noqa: SLF001  for atomic(durable=True)
    with savepoint, _committing(connection):
        yield
        if connection.connection.info.transaction_status == TransactionStatus.INERROR:
            transaction.set_rollback(True, using=connection.alias)


@contextmanager
def _committing(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Call what is registered by ``on_commit()`` when a run's own transaction would commit."""
    outside = len(connection.savepoint_ids)
    before = len(connection.run_on_commit)
    register, release = connection.on_commit, connection.savepoint_commit

    def on_commit(func: Callable[[], object], robust: bool = False) -> None:
        register(func, robust)
        if len(connection.savepoint_ids) == outside:
            commit()

    def savepoint_commit(sid: str) -> None:
        release(sid)
        if len(connection.savepoint_ids) == outside:
            commit()

    def commit() -> None:
        calls = connection.run_on_commit[before:]
        del connection.run_on_commit[before:]
        for _, call, robust in calls:  # type: ignore[misc]  # its stubs know of two
            try:
                call()
            except Exception as error:
                if not robust:
                    raise
                logs.callbacks.on_commit_failed(call, error)

    with patch.multiple(connection, on_commit=on_commit, savepoint_commit=savepoint_commit):
        yield
        commit()  # of a block that had no savepoint
