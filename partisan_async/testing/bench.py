"""Claims, runs and settles tasks one by one, as a supervisor and its worker do."""

from __future__ import annotations

import contextvars
import dataclasses
import datetime
import json
import time
import uuid
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
from partisan_async.testing.contained import contained, setting_kept
from partisan_async.testing.limited import Limited
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
        self._limited = Limited(self._me, self.alias, _TTL)
        self._made_way: list[int] = []
        """Tasks that are left to the next supervisor."""

    def newest(self) -> int:
        """Return the greatest id of a row; 0 if there is none."""
        last = Task.objects.using(self.alias).order_by("-pk").values_list("pk", flat=True).first()
        return last or 0

    def claim_next(self, only: str | None, moment: datetime.datetime | None) -> list[Claim]:
        """Claim the next task that is due: queues by name, each in its own order.

        :param moment: the time that limits count at; ``None``: now.
        """
        self._limited.opens = None
        waiting = Task.objects.using(self.alias).filter(status__in=WAITING)
        names = [only] if only else waiting.values_list("queue_name", flat=True).distinct()
        for name in sorted(names):
            if claims := self._claim_of(name, moment or timezone.now()):
                return claims
        return []

    def _claim_of(self, queue_name: str, moment: datetime.datetime) -> list[Claim]:
        seen = self._beat(queue_name)
        self._execute(as_of(store.promote(queue_name), timezone.now()))
        held = [one for one, holds in json.loads(seen.processors or "[]") if holds]
        among = store.Among(self._made_way, paused=held)
        if seen.newcomers and (claims := self._limited.claim_next(queue_name, among, moment)):
            return claims
        return store.claims(self._execute(store.claim(self._me, queue_name, 1, _TTL, among)))

    def claim_only(self, task: Task) -> list[Claim]:
        """Claim this task."""
        self._beat(task.queue_name)
        return store.claims(self._execute(store.claim_only(self._me, task.pk)))

    def advance(self, only: str | None, until: datetime.datetime) -> datetime.datetime | None:
        """Go on to the next time at which a task may start; ``None``: none may by then.

        A scheduled task is made ready.
        """
        opens = self._limited.opens
        if opens is not None and opens > until:
            opens = None
        rows = self._execute(store.advance(only, opens or until))
        return rows[0][0] if rows else opens

    def run(self, claim: Claim, moment: datetime.datetime | None, *, tells: bool = True) -> Ran:
        """Run a claim, and settle it as of a moment; ``None``: now.

        :param tells: whether other tasks are concerned: its ``ON_ERROR`` is enqueued, and the key
            of its limit is paused where it asks for that.
        """
        claim = self._as_of(claim, moment)
        executor = self._executor(claim, moment)
        began = time.perf_counter()
        with setting_kept("lock_timeout", self.alias), contained():
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
            if tells:
                self._pause_key(settled, moment or timezone.now())
            self._settle(settled, moment or timezone.now())
        if isinstance(decision, Finished):
            decision = Finished(decision.result)
        if isinstance(decision, Postponed) and not (decision.counted or decision.whole_key):
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

    def _pause_key(self, settlement: Settlement, moment: datetime.datetime) -> None:
        claim, decision = settlement.claim, settlement.decision
        if isinstance(decision, Postponed) and decision.whole_key and claim.limit_name is not None:
            key = claim.limit_name, claim.limit_key
            pause = store.pause_keys({key: decision.pause.total_seconds()})
            run(*as_of(pause, moment), self.alias)

    def _settle(self, settlement: Settlement, moment: datetime.datetime) -> None:
        with setting_kept("lock_timeout", self.alias):
            try:
                with transaction.atomic(using=self.alias):
                    self._execute(as_of(store.settle(self._me, [settlement]), moment))
            except IntegrityError:  # an identical call waits by now
                gently = store.settle(self._me, [settlement], gently=True)
                self._execute(as_of(gently, moment))

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
