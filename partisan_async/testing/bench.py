"""Claims, runs and settles tasks one by one, as a supervisor and its worker do."""

from __future__ import annotations

import contextvars
import dataclasses
import datetime
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asgiref.sync import async_to_sync
from django.db import IntegrityError, transaction
from django.utils import timezone

from partisan_async import logs, registry, store
from partisan_async.claim import Attempt, Claim, Settlement
from partisan_async.declared import is_async
from partisan_async.enqueue.run import fetch, run
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.models import WAITING, Task
from partisan_async.policy import Decision, Finished, Outcome, Postponed, PutUnder
from partisan_async.settings import queue_settings
from partisan_async.testing.clock import as_of
from partisan_async.testing.contained import contained
from partisan_async.testing.raised import Errors, Witness
from partisan_async.verdict import Verdicts
from partisan_async.worker.executor import Executor

WORKER_ID = "run_pending"
"""The worker id of this process on rows."""

_TTL = datetime.timedelta(minutes=1)


@dataclasses.dataclass(frozen=True)
class Ran:
    """One run.

    :param task: the row after the run.
    :param decision: the outcome of the run; ``partisan_async.policy`` has the kinds.
    """

    task: Task
    decision: Decision


class Bench:
    """Runs the tasks of one call of the kit: claims and settles as a supervisor does."""

    def __init__(self) -> None:
        self.alias = store.database()
        self.errors = Errors()
        self._me = uuid.uuid4()
        self._made_way: list[int] = []
        """Tasks that are left to the next supervisor."""

    def newest(self) -> int:
        """Return the greatest id of a row; 0 if there is none."""
        last = Task.objects.using(self.alias).order_by("-pk").values_list("pk", flat=True).first()
        return last or 0

    def claim_next(self, only: str | None) -> list[Claim]:
        """Claim the next task that is due: queues by name, each in its own order."""
        waiting = Task.objects.using(self.alias).filter(status__in=WAITING)
        names = [only] if only else waiting.values_list("queue_name", flat=True).distinct()
        for name in sorted(names):
            seen = self._beat(name)
            self._execute(as_of(store.promote(name), timezone.now()))
            held = [one for one, holds in json.loads(seen.processors or "[]") if holds]
            claim = store.claim(self._me, name, 1, _TTL, store.Among(self._made_way, paused=held))
            if claims := store.claims(self._execute(claim)):
                return claims
            if seen.newcomers and (claims := self._claim_limited(name, held)):
                return claims
        return []

    def _claim_limited(self, queue_name: str, paused: list[str]) -> list[Claim]:
        """Claim the next task that waits for a limit; each starts alone, so none is full here."""
        tasks = Task.objects.using(self.alias).filter(status=Task.STATUS_LIMITED)
        due = tasks.filter(queue_name=queue_name, execute_after__lte=timezone.now())
        left = due.exclude(pk__in=self._made_way).exclude(processor_class__in=paused)
        first = left.order_by("limit_rank", "pk").values_list("pk", flat=True).first()
        if first is None:
            return []
        return store.claims(self._execute(store.claim_only(self._me, first)))

    def claim_only(self, task: Task) -> list[Claim]:
        """Claim this task."""
        self._beat(task.queue_name)
        return store.claims(self._execute(store.claim_only(self._me, task.pk)))

    def advance(self, only: str | None, until: datetime.datetime) -> datetime.datetime | None:
        """Make the next scheduled task ready; return its time, ``None`` if none is due by then."""
        rows = self._execute(store.advance(only, until))
        return rows[0][0] if rows else None

    def run(self, claim: Claim, moment: datetime.datetime | None, *, tells: bool = True) -> Ran:
        """Run a claim, and settle it as of a moment; ``None``: now.

        :param tells: whether to enqueue its ``ON_ERROR``.
        """
        claim = self._as_of(claim, moment)
        executor = self._executor(claim, moment)
        began = time.perf_counter()
        with self._patience_kept(), contained():
            outcome = contextvars.copy_context().run(_run, executor, claim)
        verdicts = Verdicts(queue_settings(claim.queue_name))
        settlement = verdicts.settlement(claim, outcome, Attempt(0.0, WORKER_ID))
        decision = settlement.decision
        if isinstance(decision, PutUnder):
            (again,) = self._put_under(settlement)
            return self.run(again, moment, tells=tells)
        logs.tasks.settled(claim, decision, time.perf_counter() - began)
        if not (isinstance(decision, Finished) and decision.settled):
            settled = settlement if tells else settlement._replace(on_error=None)
            self._settle(settled, moment or timezone.now())
        if isinstance(decision, Finished):
            decision = Finished(decision.result)
        if isinstance(decision, Postponed) and not decision.counted:
            self._made_way.append(claim.id)
        task = Task.objects.using(self.alias).get(pk=claim.id)
        self.errors.note(task, decision, executor.raised)
        return Ran(task, decision)

    def _put_under(self, settlement: Settlement) -> list[Claim]:
        """Have a task wait for the limit that its row did not say; claim it anew, as above."""
        self._execute(store.put_under_limits(self._me, [settlement]))
        return store.claims(self._execute(store.claim_only(self._me, settlement.claim.id)))

    def leave(self) -> None:
        """Remove the row that stands for this supervisor."""
        run(*store.forget([self._me]), self.alias)

    def _as_of(self, claim: Claim, moment: datetime.datetime | None) -> Claim:
        if claim.trying_seconds is None:
            return claim
        since = """
        SELECT greatest(0, extract(epoch FROM statement_timestamp() - first_tried_at))::float8
        FROM partisan_async_task WHERE id = %(id)s
        """
        statement = store.Statement(since, {"id": claim.id})
        ((seconds,),) = self._execute(as_of(statement, moment or timezone.now()))
        return claim._replace(trying_seconds=seconds)

    def _executor(self, claim: Claim, moment: datetime.datetime | None) -> Witness:
        # Keep the row: Ran.task shows it.
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
        # A settle sets lock_timeout for its transaction: here that is the test's.
        ((patience,),) = self._execute(store.Statement("SHOW lock_timeout", {}))
        yield
        keep = "SELECT set_config('lock_timeout', %(patience)s, true)"
        self._execute(store.Statement(keep, {"patience": patience}))

    def _beat(self, queue_name: str) -> store.Seen:
        said = store.Beat(self._me, queue_name)
        beat = store.beat([said], hostname="", process="{}", ttl=_TTL)
        (seen,) = self._execute(beat)
        return store.Seen(*seen)

    def _execute(self, statement: store.Statement) -> list[Any]:
        return fetch(*statement, self.alias)


def _run(executor: Executor, claim: Claim) -> Outcome:
    try:
        run_async = is_async(registry.get(claim.processor_class))
    except ProcessorClassNotFound:
        run_async = False
    return async_to_sync(executor.aexecute)(claim) if run_async else executor.execute(claim)
