"""Holds claimed tasks until a worker has room for them, and decides how they end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum
from itertools import chain
from typing import assert_never

from partisan_async import logs, registry
from partisan_async.claim import Claim, Settlement
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.policy import (
    CutOff,
    Decision,
    Died,
    Failed,
    Failure,
    GivenBack,
    Outcome,
    Overran,
    Rules,
    Unrecognised,
    decide,
)
from partisan_async.processor import rules_of
from partisan_async.settings import QueueSettings
from partisan_async.supervisor.aside import Aside
from partisan_async.supervisor.pace import AHEAD_SECONDS, Pace
from partisan_async.supervisor.report.figures import Figures
from partisan_async.supervisor.report.tally import Tally
from partisan_async.supervisor.settler import Settler
from partisan_async.supervisor.workers.pool import Pool
from partisan_async.worker import worker
from partisan_async.worker.executor import is_async, tell_of_loss

MOST_UNTOLD = 1000
"""So many losses may wait for receivers that block."""

TELLING_SECONDS = 5.0
"""At the end receivers are waited for so long."""

_UNSEEN = (Died, Overran, Unrecognised)
"""The outcomes that no worker tells."""


class Dispatcher:
    """Feeds the pool from a buffer, and the settler from the pool.

    :param figures: where to count what becomes of tasks, if anybody may ask for it.
    :param may_start: asked before anything is sent: whether the lease is held.
    :param on_room: called when more tasks may fit than a moment ago.
    """

    def __init__(
        self,
        queue_name: str,
        settings: QueueSettings,
        setup: worker.Setup,
        settler: Settler,
        tally: Tally,
        figures: Figures | None,
        *,
        may_start: Callable[[], bool],
        on_room: Callable[[], None],
    ) -> None:
        self.deaths = 0
        """How many worker processes died that nobody had told to."""
        self.kills = 0
        """How many were killed for a task: cancelled, over its time limit, or another's by now."""
        self.pool = Pool(
            size=settings.WORKERS_COUNT,
            concurrency=settings.ASYNC_CONCURRENCY,
            tasks_per_process=settings.TASKS_PER_WORKER_INSTANCE,
            setup=setup,
            listener=self,
        )
        self._queue_name = queue_name
        self._settings = settings
        self._settler = settler
        self._tally = tally
        self._figures = figures
        self._may_start = may_start
        self._on_room = on_room
        self._pace = Pace()
        self._waiting: dict[_Kind, list[Claim]] = {kind: [] for kind in _Kind}
        self._rules: dict[str, Rules] = {}
        self._filled_at = 0.0
        self._last_names: set[str] = set()
        self._closed = False
        self._disowned: set[Claim] = set()
        self._paused = False
        self._paused_processors: frozenset[str] = frozenset()
        self._receivers: Aside | None = None

    # For the claimer

    @property
    def buffered(self) -> int:
        """How many claimed tasks wait here for a worker."""
        return sum(map(len, self._waiting.values()))

    @property
    def is_paused(self) -> bool:
        """Whether the queue is paused."""
        return self._paused

    @property
    def paused_count(self) -> int:
        """How many processors are paused in it."""
        return len(self._paused_processors)

    def room(self) -> int:
        """Return how many more rows to claim: what can start now, and what soon will."""
        if not self._settler.has_room():
            return 0
        # What is ready next will mostly be of the kinds that came last.
        names = self._last_names
        together = min(map(self._pace.batch_length, names), default=1)
        workers = self.pool.sync_room(self._ahead(together))
        if self.buffered > self._settings.MIN_QUEUE_SIZE and not workers:
            return 0
        at_once = workers * together
        if names and all(is_async(registry.get(name)) for name in names):
            at_once = max(workers, self.pool.async_room)  # a sync one may be behind them
        soon = self._pace.ahead(names, self._settings.WORKERS_COUNT)
        space = self._settings.MAX_QUEUE_SIZE
        return max(0, min(max(space, at_once), at_once + soon) - self.buffered)

    def room_for_rescued(self) -> int:
        """Return how many orphaned tasks could start at once."""
        if not self._settler.has_room():
            return 0
        return max(0, min(self.pool.sync_room(), self._settings.MAX_QUEUE_SIZE) - self.buffered)

    def admit(self, claims: Sequence[Claim], how: str = "claimed", *, first: bool = False) -> None:
        """Take rows that became ours; those of unknown processors are over at once.

        :param how: for the log.
        :param first: before those that wait here: they were claimed before them, by whomever.
        """
        claims, held = self._held_back(claims)
        if held:
            logs.tasks.claimed(held, how)
            self._give_back(held)
            if not claims:
                return
        known: dict[_Kind, list[Claim]] = {kind: [] for kind in _Kind}
        unknown = []
        for claim in claims:
            try:
                known[_kind(claim)].append(claim)
            except ProcessorClassNotFound:
                unknown.append(claim)
        for kind, waiting in self._waiting.items():
            waiting[0 if first else len(waiting) :] = [*known[kind], *(waiting if first else ())]
        self._filled_at = time.monotonic()
        self._last_names = {claim.processor_class for kind in known.values() for claim in kind}
        self.dispatch()
        # Not before: in an idle system a log line takes .2 ms, longer than to send a task.
        logs.tasks.claimed(claims, how)
        for claim in unknown:
            self._decide(claim, Unrecognised(claim.processor_class), None)

    def claims(self) -> list[Claim]:
        """Return every claim that is not settled yet, wherever it is."""
        return [*self.unended(), *self._settler.claims()]

    def unended(self) -> list[Claim]:
        """Return every claim that waits for a worker or is with one."""
        return [*chain(*self._waiting.values()), *self.pool.claims()]

    def held_for_long(self) -> set[int]:
        """Return the ids of rows that wait, run, or are left in process for good."""
        return {claim.id for claim in self.unended()} | self._settler.left()

    def disown(self, foreign: set[tuple[int, int]]) -> None:
        """Drop claims, by ``(id, claim_seq)``, that are another's by now; kill those that run."""
        self._settler.disown(foreign)
        for waiting in self._waiting.values():
            waiting[:] = [c for c in waiting if (c.id, c.claim_seq) not in foreign]
        if running := [c for c in self.pool.claims() if (c.id, c.claim_seq) in foreign]:
            logs.tasks.disowned(running)
            self._disowned = {*running, *self._disowned.intersection(self.pool.claims())}
            self.pool.kill(running)

    def on_beat(self) -> None:
        """Give back what was to start within a second and did not: it is anybody's again.

        And end a spare worker that nobody waits for.
        """
        if not self._waiting[_Kind.ALONE]:
            self.pool.retire_spare()
        if time.monotonic() - self._filled_at > AHEAD_SECONDS:
            self._give_back_buffered()

    def hold(self, paused: bool) -> None:
        """While the queue is paused, send nothing, and give back what has not started."""
        if paused and not self._paused:
            logs.queues.paused(self._queue_name)
            self._give_back_unstarted()
        elif self._paused and not paused:
            logs.queues.resumed(self._queue_name)
        self._paused = paused

    def hold_processors(self, names: frozenset[str]) -> bool:
        """While these are paused, start none of their tasks. Return whether others were before.

        What has not started is given back, also of others: whose it is, the next claim decides.
        """
        before, self._paused_processors = self._paused_processors, names
        for name in sorted(names - before):
            logs.queues.paused(self._queue_name, name)
        for name in sorted(before - names):
            logs.queues.resumed(self._queue_name, name)
        if names - before:
            self._give_back_unstarted()
        return names != before

    def close(self) -> None:
        """Send nothing more, and give back what has not started, here and in the workers."""
        self._closed = True
        self._give_back_unstarted()

    @property
    def _holds(self) -> bool:
        return self._closed or self._paused

    def _held_back(self, claims: Sequence[Claim]) -> tuple[Sequence[Claim], Sequence[Claim]]:
        """Return the claims that may start, and those that are to be given back."""
        if self._holds:
            return [], claims
        names = self._paused_processors
        if not names:
            return claims, []
        held = [claim for claim in claims if claim.processor_class in names]
        return [claim for claim in claims if claim.processor_class not in names], held

    # To the workers

    def dispatch(self) -> None:
        """Send to the workers what they have room for, of each kind in its order."""
        if self._holds or not self._may_start():
            return
        kinds = [kind for kind, waiting in self._waiting.items() if waiting]
        while kinds:
            kind = min(kinds, key=lambda kind: _order(self._waiting[kind][0]))
            # What finds no room leaves the workers to the other kinds.
            if not self._send(kind) or not self._waiting[kind]:
                kinds.remove(kind)

    def _send(self, kind: _Kind) -> int:
        """Send the first tasks of a kind to one worker; return how many it took."""
        waiting = self._waiting[kind]
        first = waiting[0]
        match kind:
            case _Kind.ALONE:
                taken = self.pool.dispatch([first], is_async=_is_async(first))
            case _Kind.ASYNC:
                room = self.pool.async_room
                taken = self.pool.dispatch(waiting[:room], is_async=True) if room else 0
            case _Kind.SYNC:
                taken = self._send_sync(waiting)
            case _:
                assert_never(kind)
        del waiting[:taken]
        return taken

    def _send_sync(self, waiting: Sequence[Claim]) -> int:
        first = waiting[0].processor_class
        together = self._pace.batch_length(first)
        ahead = self._ahead(together)
        workers = self.pool.sync_room(ahead)
        if not workers:
            return 0
        length = 1
        longest = min(-(-len(waiting) // workers), together)
        while length < longest:
            name = waiting[length].processor_class
            if name != first and self._pace.batch_length(name) < longest:
                break
            length += 1
        return self.pool.dispatch(waiting[:length], is_async=False, ahead=ahead)

    def _ahead(self, together: int) -> int:
        """Return how many short tasks a worker may have and be sent more of them.

        None where others wait for a worker that has no sync task at all: they would for ever.
        """
        if self._waiting[_Kind.ASYNC] or self._waiting[_Kind.ALONE]:
            return 0
        return together // 2

    # From the workers

    def on_ended(self, claim: Claim, outcome: Outcome, seconds: float, worker_id: str) -> None:
        if isinstance(outcome, CutOff) and not outcome.begun:
            self._decide(claim, outcome, None)
            return
        self._pace.measure(claim.processor_class, seconds)
        self._decide(claim, outcome, (seconds, worker_id))

    def on_returned(self, claims: Sequence[Claim]) -> None:
        claims, held = self._held_back(claims)
        self._give_back(held)
        for claim in claims:
            self._waiting[_kind(claim)].append(claim)
        for waiting in self._waiting.values():
            waiting.sort(key=_order)

    def on_interrupted(self, claim: Claim, seconds: float, worker_id: str) -> None:
        self._give_back([claim], (seconds, worker_id))

    def on_capacity(self) -> None:
        self.dispatch()
        self._on_room()

    def on_death(self, *, killed: bool) -> None:
        if killed:
            self.kills += 1
        else:
            self.deaths += 1

    # To the settler

    def _decide(self, claim: Claim, outcome: Outcome, ran: tuple[float, str] | None) -> None:
        decision: Decision
        stores_result = False
        try:
            rules = self._rules_of(claim.processor_class)
            stores_result = rules.stores_result
            decision = decide(outcome, rules, claim)
        except Exception as error:  # noqa: BLE001
            # A config that cannot be, for one: the row must say so, or it would be held for ever.
            logs.outcomes.undecided(claim, error)
            decision = Failed(Failure.of(error))
        self._settler.add(Settlement(claim, decision, ran, stores_result))
        try:
            self._tell(claim, decision, ran, unseen=isinstance(outcome, _UNSEEN))
        except Exception as error:  # noqa: BLE001  a log handler of the site's, for one
            with suppress(Exception):
                logs.outcomes.untold(claim, error)

    def _tell(
        self, claim: Claim, decision: Decision, ran: tuple[float, str] | None, *, unseen: bool
    ) -> None:
        if ran is not None:
            self._tally.add(claim, decision, ran[0])
        if self._figures is not None:
            self._figures.count(claim, decision, ran and ran[0])
        if unseen:
            self._tell_of_loss(claim, decision)
        logs.tasks.settled(claim, decision, ran and ran[0])

    def _tell_of_loss(self, claim: Claim, decision: Decision) -> None:
        """Send the signals of an end that no worker has seen; elsewhere: receivers may block."""
        with suppress(ProcessorClassNotFound):
            processor_class = registry.get(claim.processor_class)
            if processor_class._is_heard():  # noqa: SLF001
                self._receivers = self._receivers or Aside("partisan receivers")
                if len(self._receivers) < MOST_UNTOLD:
                    self._receivers.call(tell_of_loss, processor_class, claim, decision)
                else:
                    logs.callbacks.not_told(claim)

    async def tell_the_rest(self) -> None:
        """Return when receivers have heard of every loss, or have taken too long."""
        if self._receivers is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(TELLING_SECONDS):
                    await self._receivers.ask(lambda: None)

    def _give_back(self, claims: Sequence[Claim], ran: tuple[float, str] | None = None) -> None:
        for claim in claims:
            self._settler.add(Settlement(claim, GivenBack(), ran))
            # Not of one that is not ours any more: it would look as if it ran again.
            if claim not in self._disowned:
                logs.tasks.settled(claim, GivenBack(), ran and ran[0])

    def _give_back_unstarted(self) -> None:
        self._give_back_buffered()
        self.pool.revoke()

    def _give_back_buffered(self) -> None:
        buffered = list(chain(*self._waiting.values()))
        for waiting in self._waiting.values():
            waiting.clear()
        self._give_back(buffered)

    def _rules_of(self, name: str) -> Rules:
        known = self._rules.get(name)
        if known is None:
            known = rules_of(name, self._settings)
            # Rows may name processors without number that nobody knows.
            with suppress(ProcessorClassNotFound):
                registry.get(name)
                self._rules[name] = known
        return known


class _Kind(Enum):
    """What may stand in each other's way: each kind waits for a room of its own."""

    ALONE = "alone"
    SYNC = "sync"
    ASYNC = "async"


def _kind(claim: Claim) -> _Kind:
    kind = _Kind.ASYNC if _is_async(claim) else _Kind.SYNC
    return _Kind.ALONE if claim.alone else kind


def _is_async(claim: Claim) -> bool:
    return is_async(registry.get(claim.processor_class))


def _order(claim: Claim) -> tuple[int, int]:
    return claim.priority, claim.id
