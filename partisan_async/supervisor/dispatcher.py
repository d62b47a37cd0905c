"""Holds claimed tasks until a worker has room for them, and decides how they end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from partisan_async import logs, registry
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.policy import (
    Decision,
    Failed,
    Failure,
    GivenBack,
    Outcome,
    Unrecognised,
    decide,
)
from partisan_async.processor import rules_of
from partisan_async.settings import QueueSettings
from partisan_async.store import Claim, Settlement
from partisan_async.supervisor import worker
from partisan_async.supervisor.executor import is_async
from partisan_async.supervisor.pace import AHEAD_SECONDS, Pace
from partisan_async.supervisor.pool import Pool
from partisan_async.supervisor.settler import Settler

logger = logging.getLogger("partisan_async")


class Dispatcher:
    """Feeds the pool from a buffer, and the settler from the pool.

    :param may_start: asked before anything is sent: whether the lease is held.
    :param on_room: called when more tasks may fit than a moment ago.
    """

    def __init__(
        self,
        settings: QueueSettings,
        setup: worker.Setup,
        settler: Settler,
        *,
        may_start: Callable[[], bool],
        on_room: Callable[[], None],
    ) -> None:
        self.pool = Pool(
            size=settings.WORKERS_COUNT,
            concurrency=settings.ASYNC_CONCURRENCY,
            tasks_per_process=settings.TASKS_PER_WORKER_INSTANCE,
            setup=setup,
            listener=self,
        )
        self._settings = settings
        self._settler = settler
        self._may_start = may_start
        self._on_room = on_room
        self._pace = Pace()
        self._buffer: list[Claim] = []
        self._filled_at = 0.0
        self._last_names: set[str] = set()
        self._closed = False

    # For the claimer

    def room(self) -> int:
        """Return how many more rows to claim: what can start now, and what soon will."""
        idle = self.pool.idle
        if len(self._buffer) > self._settings.MIN_QUEUE_SIZE and not idle:
            return 0
        # What is ready next will mostly be of the kinds that came last.
        names = self._last_names
        at_once = idle
        if names and all(is_async(registry.get(name)) for name in names):
            at_once = max(idle, self.pool.async_room)  # a sync one may be behind them
        wanted = at_once + self._pace.ahead(names, self._settings.WORKERS_COUNT)
        space = self._settings.MAX_QUEUE_SIZE
        return max(0, min(space, wanted) - len(self._buffer))

    def room_for_rescued(self) -> int:
        """Return how many orphaned tasks could start at once."""
        return max(0, min(self.pool.idle, self._settings.MAX_QUEUE_SIZE) - len(self._buffer))

    def admit(self, claims: Sequence[Claim], *, first: bool = False) -> None:
        """Take claimed rows; those of unknown processors are over at once.

        :param first: before what is there: unfinished tasks come before new ones.
        """
        if self._closed:
            self._give_back(claims)
            return
        known = []
        for claim in claims:
            try:
                registry.get(claim.processor_class)
            except ProcessorClassNotFound:
                self._decide(claim, Unrecognised(claim.processor_class), None)
            else:
                known.append(claim)
        self._buffer = known + self._buffer if first else self._buffer + known
        self._filled_at = time.monotonic()
        self._last_names = {claim.processor_class for claim in known}
        self.dispatch()

    def claims(self) -> list[Claim]:
        """Return every claim that is not settled yet, wherever it is."""
        return [*self._buffer, *self.pool.claims(), *self._settler.claims()]

    def disown(self, foreign: set[tuple[int, int]]) -> None:
        """Drop claims, by ``(id, claim_seq)``, that are another's by now; kill those that run."""
        self._buffer = [c for c in self._buffer if (c.id, c.claim_seq) not in foreign]
        if running := [c for c in self.pool.claims() if (c.id, c.claim_seq) in foreign]:
            logs.disowned(running)
            self.pool.kill(running)

    def on_beat(self) -> None:
        """Give back what was to start within a second and did not: it is anybody's again.

        And end a spare worker that nobody waits for.
        """
        if not any(claim.alone for claim in self._buffer):
            self.pool.retire_spare()
        if time.monotonic() - self._filled_at <= AHEAD_SECONDS:
            return
        overdue, self._buffer = self._buffer, []
        self._give_back(overdue)

    def close(self) -> None:
        """Send nothing more, and give back what has not started, here and in the workers."""
        self._closed = True
        buffer, self._buffer = self._buffer, []
        self._give_back(buffer)
        self.pool.revoke()

    # To the workers

    def dispatch(self) -> None:
        """Send to the workers what they have room for, in the order of the buffer."""
        if self._closed or not self._may_start():
            return
        position = 0
        while position < len(self._buffer):
            asynchronous = self._is_async(self._buffer[position])
            room = self.pool.async_room if asynchronous else self.pool.idle
            if not room and not self._buffer[position].alone:
                position += 1  # one of the other kind may find some
                continue
            batch = self._batch(position, asynchronous)
            taken = self.pool.dispatch(batch, is_async=asynchronous)
            del self._buffer[position : position + taken]
            position += 0 if taken else 1

    def _batch(self, position: int, asynchronous: bool) -> list[Claim]:
        """Return the tasks from this one on that may go to one worker together."""
        first = self._buffer[position]
        if first.alone:
            return [first]
        if asynchronous:
            longest = self.pool.async_room
        else:
            fair = -(-len(self._buffer) // max(1, self.pool.idle))
            longest = min(fair, self._pace.batch_length(first.processor_class))
        batch = [first]
        for claim in self._buffer[position + 1 : position + longest]:
            if claim.alone or self._is_async(claim) != asynchronous:
                break
            if not asynchronous and self._pace.batch_length(claim.processor_class) < longest:
                break
            batch.append(claim)
        return batch

    def _is_async(self, claim: Claim) -> bool:
        return is_async(registry.get(claim.processor_class))

    # From the workers

    def on_ended(self, claim: Claim, outcome: Outcome, seconds: float, worker_id: str) -> None:
        self._pace.measure(claim.processor_class, seconds)
        self._decide(claim, outcome, (seconds, worker_id))
        self._on_room()

    def on_returned(self, claims: Sequence[Claim]) -> None:
        if self._closed:
            self._give_back(claims)
        else:
            self._buffer = sorted([*claims, *self._buffer], key=lambda c: (c.priority, c.id))

    def on_interrupted(self, claim: Claim, seconds: float, worker_id: str) -> None:
        self._give_back([claim], (seconds, worker_id))

    def on_capacity(self) -> None:
        self.dispatch()
        self._on_room()

    # To the settler

    def _decide(self, claim: Claim, outcome: Outcome, ran: tuple[float, str] | None) -> None:
        decision: Decision
        try:
            rules = rules_of(claim.processor_class, self._settings)
            decision = decide(outcome, rules, claim.counters)
        except Exception as error:
            # A config that cannot be, for one: the row must say so, or it would be held for ever.
            logger.exception("task %s %s: no decision", claim.id, claim.processor_class)
            decision = Failed(Failure.of(error))
        self._settler.add(Settlement(claim, decision, ran))
        logs.settled(claim, decision, ran and ran[0])

    def _give_back(self, claims: Sequence[Claim], ran: tuple[float, str] | None = None) -> None:
        for claim in claims:
            self._settler.add(Settlement(claim, GivenBack(), ran))
            logs.settled(claim, GivenBack(), ran and ran[0])
