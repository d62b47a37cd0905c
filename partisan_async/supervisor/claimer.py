"""Decides when to ask the database for what: claims, rescues, promotes, and takes stock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from uuid import UUID

import psycopg

from partisan_async import logs, store
from partisan_async.claim import Claim, Settlement
from partisan_async.models import Task
from partisan_async.policy import Deferred, GivenBack, Interrupted, Postponed, Retried, Suspected
from partisan_async.postgres.blame import Blame, whose
from partisan_async.settings import QueueSettings
from partisan_async.supervisor.around import MORE, Around
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.dispatcher import Dispatcher
from partisan_async.supervisor.lease import Lease, Sight
from partisan_async.supervisor.parking import Parking
from partisan_async.supervisor.trouble import Trouble


class Claimer:
    """Claims for ever, until it is stopped. It sleeps while there is nothing to claim.

    :param hears: asked before it sleeps: whether NOTIFY is proven to wake it, or it has to poll.
    """

    def __init__(
        self,
        me: UUID,
        queue_name: str,
        settings: QueueSettings,
        connection: Connection,
        lease: Lease,
        dispatcher: Dispatcher,
        *,
        hears: Callable[[], bool],
    ) -> None:
        self._me = me
        self._queue_name = queue_name
        self._settings = settings
        self._connection = connection
        self._lease = lease
        self._dispatcher = dispatcher
        self._hears = hears
        self._trouble = Trouble("claim", connection.role)
        self._claiming = Around("claim", connection)
        self._rescuing = Around("rescue", connection)
        self._promoting = Around("make ready", connection)
        self._parking = Parking(queue_name, connection)
        self._stopped = False
        self._wake = asyncio.Event()
        # What there may be to do. Each is cleared before the statement that looks is sent, so that
        # news which comes while it is under way is kept for the next turn.
        self._ready = True
        self._look_for_due = True
        self._due_at: float | None = None
        self._orphans = False
        self._dead: set[UUID] = set()
        self._silent: set[UUID] = set()
        self._doubtful = False
        self._claims = 0
        self._renewing: asyncio.Task[None] | None = None

    def on_notify(self, status: str) -> None:
        """Rows may be ready, or scheduled earlier than any that is known.

        :param status: which of the two; neither "new" nor "scheduled": both may be.
        """
        if status == store.HELD_NO_MORE:
            self.doubt()
            return
        self._ready = self._ready or status != Task.STATUS_SCHEDULED
        self._look_for_due = self._look_for_due or status != Task.STATUS_NEW
        self._wake.set()

    def on_sight(self, sight: Sight) -> None:
        """Take what a beat saw into account."""
        self._dispatcher.hold(sight.paused)
        self._hold_processors(sight)
        self._ready = self._ready or (sight.ready and not sight.paused)
        if sight.due_seconds is not None:
            self._expect(sight.due_seconds)
        self._orphans = self._orphans or sight.orphans
        self._dead.update(sight.dead)
        if self._lease.trusts_clock:
            self._silent.update(sight.silent)
        # A claim that was given up may reach the server late, and take rows that nobody knows of.
        if sight.unknown and sight.unknown - {claim.id for claim in self._dispatcher.claims()}:
            self._doubtful = True
        # Cancelled by hand, and nobody told me, or could: without --async nothing is heard. What is
        # over by now may have been settled when the beat looked.
        if sight.taken & self._dispatcher.held_for_long():
            self._doubtful = True
        self._dispatcher.on_beat()
        # Not at once, which in a flood would be each second.
        enough = self._claims >= self._settings.CHECKS_BEFORE_CLEANUP
        if enough and self._renewing is None and not self._stopped:
            self._claims = 0
            self._renewing = asyncio.ensure_future(self._renew())
        self._wake.set()

    def _hold_processors(self, sight: Sight) -> None:
        names = sight.paused_processors
        self._claiming.paused = self._rescuing.paused = names
        self._parking.on_sight(names, ending=sight.pauses_end)
        if self._dispatcher.hold_processors(names):
            self._ready = True

    def on_settled(self, batch: Sequence[Settlement]) -> None:
        """Gone back to waiting, rows may be ready, or due earlier than any that is known."""
        for settlement in batch:
            match settlement.decision:
                case Retried(pause) | Postponed(pause) | Deferred(pause) | Interrupted(pause) if (
                    pause
                ):
                    self._expect(pause.total_seconds())
                case Retried() | Postponed() | Suspected():
                    self._ready = True
                case GivenBack() if settlement.ran:
                    self._ready = True
                case _:  # what never started is anybody's: it had no room here
                    continue
            self._wake.set()

    def on_room(self) -> None:
        """More tasks may fit."""
        if self._ready or self._orphans or self._dead:
            self._wake.set()

    def doubt(self) -> None:
        """Compare the claims that are known here with the database's, before the next claim."""
        self._doubtful = self._ready = True
        self._wake.set()

    def stop(self) -> None:
        """Have ``keep()`` return after the statement that is under way."""
        self._stopped = True
        self._wake.set()

    async def keep(self) -> None:
        """Claim until ``stop()``."""
        try:
            await self._keep()
        finally:
            if self._renewing is not None:
                self._renewing.cancel()
                await asyncio.gather(self._renewing, return_exceptions=True)

    async def _keep(self) -> None:
        while not self._stopped:
            self._wake.clear()
            try:
                again = self._lease.held and await self._take()
                self._trouble.end()
            except psycopg.Error as error:
                # A claim whose answer was lost may have taken effect: then the rows are held by a
                # supervisor that lives and does not know of them.
                self._doubtful = self._ready = True
                await asyncio.sleep(self._trouble.meet(error))
                continue
            if not again and not self._stopped:
                await self._sleep()

    async def _take(self) -> bool:
        """Take what there is to take; return whether to go on at once."""
        if self._renewing is not None and self._renewing.done():
            self._renewing = None
        if self._doubtful:
            await self._take_stock()
        if self._dead or self._silent or self._orphans:
            await self._rescue()
        if self._due_at is not None and time.monotonic() >= self._due_at:
            await self._promote()
        more = await self._parking.turn()
        if self._ready and (room := self._dispatcher.room()):
            await self._claim(room)
        elif self._look_for_due and not self._ready:
            await self._promote()
        self._dispatcher.dispatch()
        if more:
            # What comes to the front with it, or is brought back, nobody tells of.
            self._ready = True
            return True
        if self._ready:
            return self._dispatcher.room() > 0
        return self._look_for_due

    async def _take_stock(self) -> None:
        """Find the claims that only the database knows, and those that only I still believe in."""
        self._doubtful = False
        try:
            before = self._known()
            held = store.claims(await self._connection.execute(store.held(self._me)))
        except psycopg.Error:
            self._doubtful = True
            raise
        known = self._known()
        if found := [claim for claim in held if _key(claim) not in known | before]:
            self._dispatcher.admit(found, "found", first=True)
        # What became mine, or was settled, while the question was under way is neither.
        if foreign := (known & before) - {_key(claim) for claim in held}:
            self._dispatcher.disown(foreign - await self._settled_within(foreign))

    async def _settled_within(self, keys: set[tuple[int, int]]) -> set[tuple[int, int]]:
        """Return which of these finished in their worker's own transaction.

        Its word of that is on its way, and the worker must not be killed for it.
        """
        claims = [claim for claim in self._dispatcher.claims() if _key(claim) in keys]
        try:
            rows = await self._connection.execute(store.look(claims))
        except psycopg.Error:
            self._doubtful = True
            raise
        ended = {(pk, seq) for pk, seq, _, status in rows if status == Task.STATUS_FINISHED}
        if self._settings.DELETE_TASKS_ON_COMPLETE:
            ended |= keys - {(pk, seq) for pk, seq, _, _ in rows}
        return ended

    async def _rescue(self) -> None:
        by_clock = self._orphans and self._lease.steady
        dead = list(self._dead)
        if dead or by_clock:
            room = self._dispatcher.room_for_rescued()
            if room < 1:
                return
            rescue = partial(
                store.rescue,
                *(self._me, self._queue_name, room, self._lease.ttl),
                dead=dead,
                by_clock=by_clock,
            )
            orphans = partial(store.orphans, rescue())
            rows = await self._rescuing.take(lambda among: rescue(among=among), orphans, room)
            claims = store.claims(rows)
            if claims:
                self._dispatcher.admit(claims, "rescued", first=True)
            if len(claims) == room:
                return
            self._orphans = False
        gone = self._dead | self._silent
        self._dead, self._silent = set(), set()
        if gone:
            await self._forget(gone)

    async def _forget(self, gone: set[UUID]) -> None:
        try:
            await self._connection.execute(store.forget(list(gone)))
        except psycopg.Error as error:
            if whose(error) is Blame.CONNECTION:
                raise
            logs.supervisor.rows_stay(error)

    async def _promote(self) -> None:
        self._look_for_due = False
        rows = await self._promoting.take(
            partial(store.promote, self._queue_name), partial(store.due, self._queue_name)
        )
        promoted = sum(count for count, _ in rows)
        next_seconds = rows[-1][1] if rows else None
        if promoted:
            self._ready = True
        if promoted == store.PROMOTED_AT_ONCE or self._promoting.went_around:
            next_seconds = 0.0
        self._due_at = None if next_seconds is None else time.monotonic() + next_seconds

    async def _claim(self, room: int) -> None:
        self._ready = False
        claim = partial(store.claim, self._me, self._queue_name, room, self._lease.ttl)
        ready = partial(store.ready, self._queue_name, room + MORE)
        rows = await self._claiming.take(claim, ready, room)
        claims = store.claims(rows)
        self._ready = self._ready or self._claiming.went_around
        if claims:
            self._ready = self._ready or len(claims) == room
            self._dispatcher.admit(claims)
        self._claims += 1

    async def _renew(self) -> None:
        # Beside the claims: to connect takes as long as a dozen of them, and no task is to wait.
        nothing = store.claim(self._me, self._queue_name, 0, self._lease.ttl)
        try:
            await self._connection.renew(nothing)
        except psycopg.Error as error:
            logs.database.claim_connection_not_renewed(error)

    async def _sleep(self) -> None:
        """Wait for the next reason to look."""
        poll = None if self._hears() else self._settings.SLEEP_DELAY_SECONDS
        due = None
        if self._due_at is not None and self._lease.held:
            due = max(0.0, self._due_at - time.monotonic())
        limits = [limit for limit in (poll, due) if limit is not None]
        try:
            await asyncio.wait_for(self._wake.wait(), min(limits, default=None))
        except TimeoutError:
            if due is None or (poll is not None and poll <= due):
                self._ready = self._look_for_due = True

    def _expect(self, due_seconds: float) -> None:
        # Never later than what is known: the news of a beat may be older.
        due_at = time.monotonic() + due_seconds
        self._due_at = due_at if self._due_at is None else min(self._due_at, due_at)

    def _known(self) -> set[tuple[int, int]]:
        return {_key(claim) for claim in self._dispatcher.claims()}


def _key(claim: Claim) -> tuple[int, int]:
    return claim.id, claim.claim_seq
