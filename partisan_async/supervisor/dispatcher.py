"""The *dispatcher*: keeps claimed tasks from the claim until the settler has them.

Tasks wait for a worker in the *buffer*, and are in the *pool* when one has them. The *demand* says
how many more to claim, the *holdings* which are ours, the *endings* what becomes of those that end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import assert_never

from partisan_async import logs, registry
from partisan_async.claim import Attempt, Claim
from partisan_async.declared import is_async
from partisan_async.policy import CutOff, Limited, Outcome, Unrecognised
from partisan_async.settings import QueueSettings
from partisan_async.supervisor.agenda import Agenda
from partisan_async.supervisor.ahead import batch_to_send
from partisan_async.supervisor.buffer import Buffer
from partisan_async.supervisor.demand import Demand
from partisan_async.supervisor.endings import Endings
from partisan_async.supervisor.holdings import Holdings
from partisan_async.supervisor.kind import Kind, kind_of
from partisan_async.supervisor.lease import Lease
from partisan_async.supervisor.pace import AHEAD_SECONDS, Pace
from partisan_async.supervisor.pauses import Pauses
from partisan_async.supervisor.settler import Settler
from partisan_async.supervisor.workers.pool import Pool
from partisan_async.worker.setup import Setup


class Dispatcher:
    """Feeds the pool from the buffer, and the endings from the pool."""

    def __init__(
        self,
        queue_name: str,
        settings: QueueSettings,
        setup: Setup,
        lease: Lease,
        agenda: Agenda,
        settler: Settler,
        endings: Endings,
    ) -> None:
        self.deaths = 0
        """Number of worker processes that died though nobody ended them."""
        self.kills = 0
        """Number of workers killed for a task: cancelled, over its time limit, or taken over."""
        self.progress = asyncio.Event()
        """Set when a task may have ended; whoever waits for that clears it first."""
        self.pool = Pool(
            sizes=(settings.least_workers, settings.most_workers),
            concurrency=settings.ASYNC_CONCURRENCY,
            tasks_per_process=settings.TASKS_PER_WORKER_INSTANCE,
            setup=setup,
            listener=self,
        )
        self.pauses = Pauses(queue_name)
        self._lease = lease
        self._agenda = agenda
        self.endings = endings
        self._pace = Pace()
        self._buffer = Buffer(kind_of)
        self._filled_at = 0.0
        self.demand = Demand(settings, settler, self.pool, self._buffer, self._pace)
        self.holdings = Holdings(self._buffer, self.pool, settler, endings)

    # For the claimer

    @property
    def buffered(self) -> int:
        """Number of claimed tasks that wait here for a worker."""
        return len(self._buffer)

    def admit(self, claims: Sequence[Claim], how: str = "claimed", *, first: bool = False) -> None:
        """Take over claims; tasks of unknown processors end at once.

        :param how: how they were claimed, for the log.
        :param first: whether they go before the tasks that wait: they were claimed earlier.
        """
        claims, held_back = self.pauses.split(claims)
        if held_back:
            logs.tasks.claimed(held_back, how)
            self.endings.give_back(held_back)
            if not claims:
                return
        unknown = self._buffer.add(claims, first=first)
        self._filled_at = time.monotonic()
        names = {claim.processor_class for claim in claims}
        self.demand.last_names = names.difference(claim.processor_class for claim in unknown)
        self.dispatch()
        # Log after sending: in an idle system a log line takes 0.2 ms, longer than to send a task.
        logs.tasks.claimed(claims, how)
        self.endings.end_unknown(unknown)

    def on_beat(self) -> None:
        """Give back tasks that were to start within a second and did not; end workers that idle."""
        if not self._buffer.of(Kind.ALONE):
            self.pool.slots.retire_spare()
        self.pool.slots.shrink()
        if time.monotonic() - self._filled_at > AHEAD_SECONDS:
            self.endings.give_back(self._buffer.empty())

    def pause_queue(self, paused: bool) -> None:
        """Send nothing while the queue is paused; give back what has not started."""
        if self.pauses.set_queue(paused):
            self._give_back_unstarted()

    def pause_processors(self, names: frozenset[str]) -> bool:
        """Start no task of these processors while they are paused; return whether that changes.

        All tasks that have not started are given back, also of other processors: the next claim
        decides who gets them.
        """
        paused, resumed = self.pauses.set_processors(names)
        if paused:
            self._give_back_unstarted()
        return bool(paused or resumed)

    def close(self) -> None:
        """Send nothing more, and give back what has not started, here and in the workers."""
        self.pauses.stopped = True
        self._give_back_unstarted()

    def _give_back_unstarted(self) -> None:
        self.endings.give_back(self._buffer.empty())
        self.pool.revoke()

    # To the workers

    def dispatch(self) -> None:
        """Send to the workers what they have room for, of each kind in its order."""
        if self.pauses.all or not self._lease.held:
            return
        kinds = self._buffer.kinds()
        while kinds:
            kind = self._buffer.next_of(kinds)
            # A kind that finds no room leaves the workers to the other kinds.
            if not self._send(kind) or not self._buffer.of(kind):
                kinds.remove(kind)
        if self._buffer:
            self.pool.slots.grow()

    def _send(self, kind: Kind) -> int:
        """Send the first tasks of a kind to one worker; return how many it took."""
        waiting = self._buffer.of(kind)
        first = waiting[0]
        match kind:
            case Kind.ALONE:
                runs_async = is_async(registry.get(first.processor_class))
                taken = self.pool.dispatch([first], is_async=runs_async)
            case Kind.ASYNC:
                room = self.pool.async_room
                taken = self.pool.dispatch(waiting[:room], is_async=True) if room else 0
            case Kind.SYNC:
                taken = self._send_sync(waiting)
            case _:
                assert_never(kind)
        self._buffer.remove(kind, taken)
        return taken

    def _send_sync(self, waiting: Sequence[Claim]) -> int:
        together = self._pace.batch_length(waiting[0].processor_class)
        ahead = self.demand.sent_ahead(together)
        free = self.pool.sync_room(ahead)
        if not free:
            return 0
        length = batch_to_send(waiting, free, together, self._pace.batch_length)
        return self.pool.dispatch(waiting[:length], is_async=False, ahead=ahead)

    # From the workers: see the pool's ``Listener``

    def on_ended(self, claim: Claim, outcome: Outcome, seconds: float, worker_id: str) -> None:
        attempt = None
        unbegun = isinstance(outcome, CutOff) and not outcome.begun
        if not unbegun and not isinstance(outcome, Unrecognised | Limited):
            self._pace.measure(claim.processor_class, seconds)
            attempt = Attempt(seconds, worker_id)
        self.endings.end(claim, outcome, attempt)

    def on_returned(self, claims: Sequence[Claim]) -> None:
        claims, held_back = self.pauses.split(claims)
        self.endings.give_back(held_back)
        self._buffer.put_back(claims)

    def on_interrupted(self, claim: Claim, seconds: float, worker_id: str) -> None:
        self.endings.give_back([claim], Attempt(seconds, worker_id))

    def on_capacity(self) -> None:
        self.dispatch()
        self._agenda.on_room()
        self.progress.set()

    def on_death(self, *, killed: bool) -> None:
        if killed:
            self.kills += 1
        else:
            self.deaths += 1
