"""Keeps claimed tasks from when they become ours to when the settler has them.

Those that wait for a worker are in the *buffer*, the others in the *pool*. How many are claimed and
sent ahead, ``ahead`` says; what becomes of those that are over, the *endings*.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import assert_never

from partisan_async import logs, registry
from partisan_async.claim import Attempt, Claim
from partisan_async.declared import is_async
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.policy import CutOff, Outcome, Unrecognised
from partisan_async.settings import QueueSettings
from partisan_async.supervisor.agenda import Agenda
from partisan_async.supervisor.ahead import batch_to_send, room_to_claim, sent_ahead
from partisan_async.supervisor.buffer import Buffer, Kind
from partisan_async.supervisor.endings import Endings
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
        """How many worker processes died that nobody had told to."""
        self.kills = 0
        """How many were killed for a task: cancelled, over its time limit, or another's by now."""
        self.progress = asyncio.Event()
        """Set when a worker may have ended a task; whoever waits for that clears it."""
        self.pool = Pool(
            size=settings.WORKERS_COUNT,
            concurrency=settings.ASYNC_CONCURRENCY,
            tasks_per_process=settings.TASKS_PER_WORKER_INSTANCE,
            setup=setup,
            listener=self,
        )
        self.pauses = Pauses(queue_name)
        self._settings = settings
        self._lease = lease
        self._agenda = agenda
        self._settler = settler
        self._endings = endings
        self._pace = Pace()
        self._buffer = Buffer(_kind_of)
        self._filled_at = 0.0
        self._last_names: set[str] = set()

    # For the claimer

    @property
    def buffered(self) -> int:
        """How many claimed tasks wait here for a worker."""
        return len(self._buffer)

    def room(self) -> int:
        """Return how many more rows to claim: what can start now, and what soon will."""
        if not self._settler.has_room():
            return 0
        # What is ready next will mostly be of the processors that came last.
        names = self._last_names
        together = min(map(self._pace.batch_length, names), default=1)
        free = self.pool.sync_room(self._sent_ahead(together))
        at_once = free * together
        if names and all(is_async(registry.get(name)) for name in names):
            at_once = max(free, self.pool.async_room)  # a sync one may be behind them
        return room_to_claim(
            free=free,
            at_once=at_once,
            soon=self._pace.starts_within_ahead(names, self._settings.WORKERS_COUNT),
            buffered=len(self._buffer),
            least=self._settings.MIN_QUEUE_SIZE,
            most=self._settings.MAX_QUEUE_SIZE,
        )

    def room_for_rescued(self) -> int:
        """Return how many orphaned tasks could start at once."""
        if not self._settler.has_room():
            return 0
        free = min(self.pool.sync_room(), self._settings.MAX_QUEUE_SIZE)
        return max(0, free - len(self._buffer))

    def admit(self, claims: Sequence[Claim], how: str = "claimed", *, first: bool = False) -> None:
        """Take rows that became ours; those of unknown processors are over at once.

        :param how: for the log.
        :param first: before those that wait here: they were claimed before them, by whomever.
        """
        claims, held_back = self.pauses.split(claims)
        if held_back:
            logs.tasks.claimed(held_back, how)
            self._endings.give_back(held_back)
            if not claims:
                return
        unknown = self._buffer.add(claims, first=first)
        self._filled_at = time.monotonic()
        self._last_names = {claim.processor_class for claim in claims}
        self._last_names.difference_update(claim.processor_class for claim in unknown)
        self.dispatch()
        # Not before: in an idle system a log line takes 0.2 ms, longer than to send a task.
        logs.tasks.claimed(claims, how)
        for claim in unknown:
            self._endings.end(claim, Unrecognised(claim.processor_class), None)

    def claims(self) -> list[Claim]:
        """Return every claim that is not settled yet, wherever it is."""
        return [*self.unended(), *self._settler.claims()]

    def unended(self) -> list[Claim]:
        """Return every claim that waits for a worker or is with one."""
        return [*self._buffer.claims(), *self.pool.claims()]

    def ids_for_long(self) -> set[int]:
        """Return the ids of rows that wait, run, or are left in process for good."""
        return {claim.id for claim in self.unended()} | self._settler.left()

    def disown(self, foreign: set[tuple[int, int]]) -> None:
        """Drop claims, by ``(id, claim_seq)``, that are another's by now; kill those that run."""
        self._settler.disown(foreign)
        self._buffer.drop(foreign)
        known = self.pool.claims()
        if running := [claim for claim in known if (claim.id, claim.claim_seq) in foreign]:
            logs.tasks.disowned(running)
            self._endings.disown(running, known)
            self.pool.kill(running)

    def on_beat(self) -> None:
        """Give back what was to start within a second and did not: it is anybody's again.

        And end a spare worker that no task waits for.
        """
        if not self._buffer.of(Kind.ALONE):
            self.pool.retire_spare()
        if time.monotonic() - self._filled_at > AHEAD_SECONDS:
            self._endings.give_back(self._buffer.empty())

    def pause_queue(self, paused: bool) -> None:
        """While the queue is paused, send nothing; what has not started is given back."""
        if self.pauses.set_queue(paused):
            self._give_back_unstarted()

    def pause_processors(self, names: frozenset[str]) -> bool:
        """While these are paused, start none of their tasks; return whether others were before.

        What has not started is given back, also of others: whose it is, the next claim decides.
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
        self._endings.give_back(self._buffer.empty())
        self.pool.revoke()

    # To the workers

    def dispatch(self) -> None:
        """Send to the workers what they have room for, of each kind in its order."""
        if self.pauses.all or not self._lease.held:
            return
        kinds = self._buffer.kinds()
        while kinds:
            kind = self._buffer.next_of(kinds)
            # What finds no room leaves the workers to the other kinds.
            if not self._send(kind) or not self._buffer.of(kind):
                kinds.remove(kind)

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
        ahead = self._sent_ahead(together)
        free = self.pool.sync_room(ahead)
        if not free:
            return 0
        length = batch_to_send(waiting, free, together, self._pace.batch_length)
        return self.pool.dispatch(waiting[:length], is_async=False, ahead=ahead)

    def _sent_ahead(self, together: int) -> int:
        others_wait = bool(self._buffer.of(Kind.ASYNC) or self._buffer.of(Kind.ALONE))
        return sent_ahead(together, others_wait=others_wait)

    # From the workers: see the pool's ``Listener``

    def on_ended(self, claim: Claim, outcome: Outcome, seconds: float, worker_id: str) -> None:
        if isinstance(outcome, CutOff) and not outcome.begun:
            self._endings.end(claim, outcome, None)
            return
        self._pace.measure(claim.processor_class, seconds)
        self._endings.end(claim, outcome, Attempt(seconds, worker_id))

    def on_returned(self, claims: Sequence[Claim]) -> None:
        claims, held_back = self.pauses.split(claims)
        self._endings.give_back(held_back)
        self._buffer.put_back(claims)

    def on_interrupted(self, claim: Claim, seconds: float, worker_id: str) -> None:
        self._endings.give_back([claim], Attempt(seconds, worker_id))

    def on_capacity(self) -> None:
        self.dispatch()
        self._agenda.on_room()
        self.progress.set()

    def on_death(self, *, killed: bool) -> None:
        if killed:
            self.kills += 1
        else:
            self.deaths += 1


def _kind_of(claim: Claim) -> Kind | None:
    """Return the kind of room that it waits for; ``None``: its processor is not known here."""
    try:
        processor_class = registry.get(claim.processor_class)
    except ProcessorClassNotFound:
        return None
    if claim.alone:
        return Kind.ALONE
    return Kind.ASYNC if is_async(processor_class) else Kind.SYNC
