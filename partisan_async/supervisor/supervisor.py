"""The loops: wake, claim, dispatch, settle; and the supervisor's start and stop.

A claimed task is in one of three places, and ``_known()`` reads them all: the *buffer* (claimed,
not sent to a worker), the pool (sent), the settler (over, not written yet).
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Coroutine, Sequence
from datetime import timedelta
from typing import Any

from django.db import connections

from partisan_async import logs, registry, store
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.policy import (
    GivenBack,
    Outcome,
    Unrecognised,
    decide,
)
from partisan_async.processor import rules_of
from partisan_async.settings import QueueSettings
from partisan_async.store import Claim, Settlement
from partisan_async.supervisor import executor, worker
from partisan_async.supervisor.connection import TRANSIENT, Connection, explain
from partisan_async.supervisor.lease import Lease, Sight
from partisan_async.supervisor.pace import AHEAD_SECONDS, Pace
from partisan_async.supervisor.pool import Pool
from partisan_async.supervisor.settler import Settler
from partisan_async.supervisor.wakeup import Wakeup

logger = logging.getLogger("partisan_async")

BEAT_SECONDS = 5.0
TTL_SECONDS = 30.0
LOOK_FOR_UNSERVED_SECONDS = 60.0
CLOSING_SECONDS = 5.0
"""After the last task's end, a database that is away is waited for so long."""


class Supervisor:
    """Runs the tasks of one queue until it is stopped.

    :param listen: woken by NOTIFY; else by polling every ``SLEEP_DELAY_SECONDS`` alone.
    :param beat_seconds: how often it gives a sign of life.
    :param ttl_seconds: after so long without one its tasks are run by others.
    :param log_level: for workers where no logging is configured; ``None``: no handler is attached.
    """

    def __init__(
        self,
        queue_name: str,
        settings: QueueSettings,
        *,
        listen: bool = True,
        beat_seconds: float = BEAT_SECONDS,
        ttl_seconds: float = TTL_SECONDS,
        log_level: int | None = None,
    ) -> None:
        self.id = uuid.uuid4()
        self.started = asyncio.Event()
        self._queue_name = queue_name
        self._settings = settings
        self._alias = store.database()
        beat, ttl = timedelta(seconds=beat_seconds), timedelta(seconds=ttl_seconds)
        self._work = Connection(self._alias, f"{queue_name} work", patience=ttl)
        self._beats = Connection(self._alias, f"{queue_name} beat", patience=ttl / 3)
        self._wakeup: Wakeup | None = None
        if listen:
            self._wakeup = Wakeup(
                self._alias, queue_name, on_wake=self._on_notify, on_listening=self._on_listening
            )
        self._lease = Lease(
            self.id,
            queue_name,
            self._beats,
            beat_every=beat,
            ttl=ttl,
            probe_channel=self._wakeup.probe_channel if self._wakeup else "",
            nonce=self._wakeup.nonce if self._wakeup else lambda: None,
            on_sight=self._on_sight,
            on_regained=self._on_regained,
        )
        self._pool = Pool(
            size=settings.WORKERS_COUNT,
            concurrency=settings.ASYNC_CONCURRENCY,
            tasks_per_process=settings.TASKS_PER_WORKER_INSTANCE,
            setup=worker.Setup(_resolved_databases(), log_level),
            listener=self,
        )
        self._pace = Pace()
        # Tasks
        self._buffer: list[Claim] = []
        self._buffered_at = 0.0
        self._last_claimed: list[Claim] = []
        self._settler = Settler(
            self.id,
            self._work,
            delete_finished=settings.DELETE_TASKS_ON_COMPLETE,
            on_settled=self._on_settled,
        )
        # What the claim loop is to do
        self._wake = asyncio.Event()
        self._ready = True
        self._look_for_due = True
        self._due_at: float | None = None
        self._dead: set[uuid.UUID] = set()
        self._orphans = False
        self._reconcile = False
        self._claims_done = 0
        # The other loops
        self._claiming: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._at_once = asyncio.Event()
        self._failure: BaseException | None = None
        self._warned_of: set[str] = set()

    async def run(self) -> None:
        """Run until ``stop()``.

        :raises Exception: what ended it, if it was not asked to stop; it has stopped in order.
        """
        loops: list[asyncio.Task[None]] = []
        try:
            await self._start(loops)
            await self._stopping.wait()
            await self._drain()
        finally:
            await self._close(loops)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Stop: let running tasks end within the grace time. Called again: at once."""
        if self._stopping.is_set():
            self._at_once.set()
        self._stopping.set()
        self._wake.set()

    # Start and stop

    async def _start(self, loops: list[asyncio.Task[None]]) -> None:
        if self._wakeup is not None:
            loops.append(self._loop(self._wakeup.keep()))
        loops.append(self._loop(self._lease.keep()))
        starting = asyncio.ensure_future(self._pool.start())
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if self._stopping.is_set():
            starting.cancel()
            await asyncio.wait({starting})
            return
        await starting
        self._claiming = self._loop(self._claim_loop())
        others = (self._pool.keep(), self._settler.keep(), self._watch_loop())
        loops.extend(self._loop(coroutine) for coroutine in others)
        await self._say_started()
        self.started.set()

    async def _say_started(self) -> None:
        sleep = self._settings.SLEEP_DELAY_SECONDS
        woken = f"by polling every {sleep:g} s"
        if self._wakeup is not None:
            try:
                await asyncio.wait_for(self._wakeup.proven.wait(), 2)
                woken = "by NOTIFY"
            except TimeoutError:
                woken += " until NOTIFY is proven to work"
        logs.started(
            self._queue_name, self._settings.WORKERS_COUNT, _describe_database(self._alias), woken
        )

    async def _drain(self) -> None:
        """Give back what has not started, and wait for what runs."""
        running = len(self._pool.claims())
        logger.info("stopping: %d task(s) with the workers", running)
        self._give_back(self._buffer)
        self._buffer = []
        self._pool.revoke()
        grace = self._settings.SHUTDOWN_GRACE_SECONDS
        ends = None if grace is None else time.monotonic() + grace
        while self._pool.claims() and not self._at_once.is_set():
            left = None if ends is None else ends - time.monotonic()
            if left is not None and left <= 0:
                break
            self._wake.clear()
            await self._wait_for_any(self._wake, self._at_once, seconds=left)
        if claims := self._pool.claims():
            tasks = ", ".join(f"{claim.id} {claim.processor_class}" for claim in claims)
            logger.warning("stopping: not done in time, given back: %s", tasks)

    async def _close(self, loops: Sequence[asyncio.Task[None]]) -> None:
        self._stopping.set()
        await self._pool.close()
        try:
            async with asyncio.timeout(CLOSING_SECONDS):
                if self._claiming is not None:
                    # Not cancelled: a claim under way would leave rows that nobody knows of.
                    await asyncio.wait({self._claiming})
                await self._settler.all_settled.wait()
                await self._work.execute(store.forget([self.id]))
                await self._work.execute(store.notify(self._queue_name))
        except (TimeoutError, *TRANSIENT) as error:
            unsettled = len(self._settler.claims())
            logger.error(
                "the database is away (%s): %d outcome(s) could not be written, and these tasks"
                " will run again elsewhere",
                explain(error),
                unsettled,
            )
        if self._claiming is not None:
            loops = [*loops, self._claiming]
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await self._work.close()
        await self._beats.close()
        logger.info("stopped: queue %r", self._queue_name)

    def _loop(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(coroutine)
        task.add_done_callback(self._on_loop_end)
        return task

    def _on_loop_end(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            return
        # Never half dead: without one of its loops it stops, in order, and the service manager
        # starts a whole one.
        error = task.exception()
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        logger.critical("stopping: an unexpected error", exc_info=error)
        self._failure = self._failure or error
        self._at_once.set()
        self.stop()

    # Claim

    async def _claim_loop(self) -> None:
        pause = 0.1
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                again = self._lease.held and await self._take()
                pause = 0.1
            except TRANSIENT as error:
                # A claim whose answer was lost may have taken effect: then the rows are held by a
                # supervisor that lives and does not know of them.
                self._reconcile = self._ready = True
                logger.warning("claim failed: %s", explain(error))
                await self._wait_for_any(self._stopping, seconds=pause)
                pause = min(2 * pause, 5)
                continue
            if not again:
                await self._sleep()

    async def _take(self) -> bool:
        """Take what there is to take; return whether to go on at once."""
        if self._reconcile:
            self._reconcile = False
            await self._take_stock()
        if self._dead or self._orphans:
            await self._rescue()
        if self._due_at is not None and time.monotonic() >= self._due_at:
            await self._promote()
        room = self._room()
        if self._ready and room:
            await self._claim(room)
        elif self._look_for_due and not self._ready:
            await self._promote()
        self._dispatch()
        if self._stopping.is_set():
            return False
        return (self._ready and self._room() > 0) or (self._look_for_due and not self._ready)

    async def _claim(self, room: int) -> None:
        # Clear before claiming: a NOTIFY that lands between the two is then kept for the next turn.
        self._ready = False
        statement = store.claim(self.id, self._queue_name, room, self._lease.ttl)
        claims = store.claims(await self._work.execute(statement))
        if claims:
            self._ready = len(claims) == room
            self._last_claimed = claims
            logs.claimed(claims)
            self._admit(claims)
        self._claims_done += 1
        if self._claims_done >= self._settings.CHECKS_BEFORE_CLEANUP:
            self._claims_done = 0
            self._work.renew()

    async def _rescue(self) -> None:
        room = min(self._pool.idle, self._settings.MAX_QUEUE_SIZE - len(self._buffer))
        by_clock = self._orphans and self._lease.steady
        if room < 1 or not (self._dead or by_clock):
            return
        dead = list(self._dead)
        statement = store.rescue(
            self.id, self._queue_name, room, self._lease.ttl, dead=dead, by_clock=by_clock
        )
        claims = store.claims(await self._work.execute(statement))
        if claims:
            logs.claimed(claims, "rescued")
            self._admit(claims, rescued=True)
        if len(claims) < room:
            self._orphans = False
            self._dead.difference_update(dead)
            await self._work.execute(store.forget(dead))

    async def _promote(self) -> None:
        self._look_for_due = False
        ((promoted, next_seconds),) = await self._work.execute(store.promote(self._queue_name))
        if promoted:
            self._ready = True
        if promoted == store.PROMOTED_AT_ONCE:
            next_seconds = 0.0
        self._due_at = None if next_seconds is None else time.monotonic() + next_seconds

    async def _take_stock(self) -> None:
        """Compare the claims I know with those that the database says are mine."""
        before = self._known()
        held = store.claims(await self._work.execute(store.held(self.id)))
        known = self._known() | before
        keys = {(claim.id, claim.claim_seq) for claim in held}
        if lost := [claim for claim in held if (claim.id, claim.claim_seq) not in known]:
            logs.claimed(lost, "found")
            self._admit(lost)
        self._buffer = [
            claim
            for claim in self._buffer
            if (claim.id, claim.claim_seq) in keys or (claim.id, claim.claim_seq) not in before
        ]
        foreign = [
            claim
            for claim in self._pool.claims()
            if (claim.id, claim.claim_seq) in before and (claim.id, claim.claim_seq) not in keys
        ]
        if foreign:
            for claim in foreign:
                logger.warning("killed %s %s: not ours any more", claim.id, claim.processor_class)
            self._pool.kill(foreign)

    def _room(self) -> int:
        """Return how many more rows to claim: what can start now, and what soon will."""
        idle = self._pool.idle
        space = self._settings.MAX_QUEUE_SIZE - len(self._buffer)
        if len(self._buffer) > self._settings.MIN_QUEUE_SIZE and not idle:
            return 0
        names = {claim.processor_class for claim in self._last_claimed}
        wanted = idle + self._pace.ahead(names, self._settings.WORKERS_COUNT)
        if names and all(_is_async(name) for name in names):
            wanted = max(wanted, self._pool.async_room)
        return max(0, min(space, wanted - len(self._buffer)))

    async def _sleep(self) -> None:
        """Wait for the next reason to claim."""
        timeout = None
        if self._wakeup is None or not self._wakeup.proven.is_set():
            timeout = self._settings.SLEEP_DELAY_SECONDS
        due = None if self._due_at is None else max(0.0, self._due_at - time.monotonic())
        if due is not None and (timeout is None or due < timeout):
            await self._wait_for_any(self._wake, seconds=due)
        elif not await self._wait_for_any(self._wake, seconds=timeout):
            self._ready = self._look_for_due = True

    # Dispatch

    def _admit(self, claims: Sequence[Claim], *, rescued: bool = False) -> None:
        """Take claimed rows into the buffer; those of unknown processors are over at once."""
        if self._stopping.is_set():
            self._give_back(claims)
            return
        known = []
        for claim in claims:
            try:
                registry.get(claim.processor_class)
                known.append(claim)
            except ProcessorClassNotFound:
                self._decide(claim, Unrecognised(claim.processor_class), None)
        # Unfinished tasks come first.
        self._buffer = known + self._buffer if rescued else self._buffer + known
        self._buffered_at = time.monotonic()

    def _dispatch(self) -> None:
        """Send to the workers what they have room for, in the order of the buffer."""
        if self._stopping.is_set() or not self._lease.held:
            return
        position = 0
        while position < len(self._buffer):
            first = self._buffer[position]
            is_async = _is_async(first.processor_class)
            if not (self._pool.async_room if is_async else self._pool.idle):
                position += 1  # one of the other kind may find room
                continue
            batch = self._batch(position, is_async=is_async)
            taken = self._pool.dispatch(batch, is_async=is_async)
            del self._buffer[position : position + taken]
            position += 0 if taken else 1

    def _batch(self, position: int, *, is_async: bool) -> list[Claim]:
        """Return the tasks from this one on that may go to one worker together."""
        first = self._buffer[position]
        if first.suspect:
            return [first]
        if is_async:
            longest = self._pool.async_room
        else:
            fair = -(-len(self._buffer) // max(1, self._pool.idle))
            longest = min(fair, self._pace.batch_length(first.processor_class))
        batch = []
        for claim in self._buffer[position : position + longest]:
            if claim.suspect or _is_async(claim.processor_class) != is_async:
                break
            if not is_async and self._pace.batch_length(claim.processor_class) < longest:
                break
            batch.append(claim)
        return batch or [first]

    # What the pool tells

    def on_ended(self, claim: Claim, outcome: Outcome, seconds: float, worker_id: str) -> None:
        self._pace.measure(claim.processor_class, seconds)
        self._decide(claim, outcome, (seconds, worker_id))
        self._wake_if_hungry()

    def on_returned(self, claims: Sequence[Claim]) -> None:
        if self._stopping.is_set():
            self._give_back(claims)
        else:
            self._buffer = sorted([*claims, *self._buffer], key=lambda c: (c.priority, c.id))

    def on_interrupted(self, claims: Sequence[Claim]) -> None:
        self._give_back(claims)

    def on_capacity(self) -> None:
        self._dispatch()
        self._wake_if_hungry()

    def _wake_if_hungry(self) -> None:
        if self._stopping.is_set() or self._orphans or self._dead or self._ready:
            self._wake.set()

    # What the lease and the listener tell

    def _on_notify(self) -> None:
        self._ready = self._look_for_due = True
        self._wake.set()

    def _on_listening(self) -> None:
        self._lease.hurry()

    def _on_regained(self) -> None:
        self._reconcile = self._ready = True

    def _on_sight(self, sight: Sight) -> None:
        if sight.ready or not self.started.is_set():
            self._ready = True
        if sight.due_seconds is not None:
            self._expect(sight.due_seconds)
        self._orphans = self._orphans or sight.orphans
        self._dead.update(sight.dead)
        held_long = time.monotonic() - self._buffered_at > AHEAD_SECONDS
        if len(self._buffer) > self._pool.idle and held_long:
            # What would start within a second did not: it is anybody's again.
            self._give_back(self._buffer)
            self._buffer = []
        self._wake.set()

    # Settle

    def _decide(self, claim: Claim, outcome: Outcome, ran: tuple[float, str] | None) -> None:
        rules = rules_of(claim.processor_class, self._settings)
        decision = decide(outcome, rules, claim.counters)
        self._settler.add(Settlement(claim, decision, ran))
        logs.settled(claim, decision, ran and ran[0])

    def _give_back(self, claims: Sequence[Claim]) -> None:
        for claim in claims:
            self._settler.add(Settlement(claim, GivenBack(), None))
            logs.settled(claim, GivenBack(), None)

    def _on_settled(self, batch: Sequence[Settlement]) -> None:
        # Gone back to waiting, rows may be ready or due earlier than the next beat says.
        for settlement in batch:
            pause = getattr(settlement.decision, "pause", None)
            if pause is None:
                continue
            if pause:
                self._expect(pause.total_seconds())
            else:
                self._ready = True
            self._wake.set()

    def _expect(self, due_seconds: float) -> None:
        # Never later than what is known: the news of a beat may be older.
        due_at = time.monotonic() + due_seconds
        self._due_at = due_at if self._due_at is None else min(self._due_at, due_at)

    # The rest

    async def _watch_loop(self) -> None:
        """Warn, once each, of queues with tasks waiting that nobody serves."""
        while True:
            await asyncio.sleep(LOOK_FOR_UNSERVED_SECONDS)
            names = {processor.QUEUE_NAME for processor in registry.processors()}
            names -= self._warned_of | {self._queue_name}
            try:
                rows = await self._beats.execute(store.unserved(sorted(names), self._lease.ttl))
            except TRANSIENT:
                continue
            for (name,) in rows:
                self._warned_of.add(name)
                logger.warning(
                    "nobody serves queue %r, and tasks wait in it; start"
                    " `manage.py start_partisan --async --queue_name %s`",
                    name,
                    name,
                )

    async def _wait_for_any(self, *events: asyncio.Event, seconds: float | None) -> bool:
        """Return whether one of them was set before the time was over."""
        waits = [asyncio.ensure_future(event.wait()) for event in events]
        try:
            done, _ = await asyncio.wait(
                waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for wait in waits:
                wait.cancel()
        return bool(done)

    def _known(self) -> set[tuple[int, int]]:
        claims = [*self._buffer, *self._pool.claims(), *self._settler.claims()]
        return {(claim.id, claim.claim_seq) for claim in claims}


def _is_async(processor_class: str) -> bool:
    return executor.is_async(registry.get(processor_class))


def _resolved_databases() -> dict[str, dict[str, Any]]:
    keys = ("NAME", "USER", "PASSWORD", "HOST", "PORT")
    return {
        alias: {key: connections[alias].settings_dict[key] for key in keys} for alias in connections
    }


def _describe_database(alias: str) -> str:
    settings = connections[alias].settings_dict
    return f"{alias!r} ({settings['NAME']} at {settings['HOST'] or 'the local socket'})"
