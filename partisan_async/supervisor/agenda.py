"""The *agenda*: what there may be to do in the database. Other parts note it; the claimer looks.

The claimer clears a note before it sends the statement that looks, so that news that arrives during
the statement is kept for the next turn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from uuid import UUID

from partisan_async import store
from partisan_async.claim import Settlement
from partisan_async.models import Task
from partisan_async.policy import (
    Deferred,
    Failed,
    GivenBack,
    Interrupted,
    Postponed,
    PutUnder,
    Retried,
    Suspected,
)
from partisan_async.supervisor.newcomers import Newcomers
from partisan_async.supervisor.open_keys import OpenKeys
from partisan_async.supervisor.sight import Sight

_WAITS_AGAIN = (Retried, Postponed, Deferred, Interrupted, Suspected, GivenBack)
"""The decisions after which a task waits again."""


class Agenda:
    """The notes of one supervisor."""

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        """Set when there is a reason to look."""
        self.ready = True
        """True if rows may be ready."""
        self.look_for_due = True
        """True if rows may be due earlier than ``due_at``."""
        self.due_at: float | None = None
        """When the next scheduled row is due, by the monotonic clock."""
        self.orphans = False
        """True if rows may be in process whose supervisor is silent."""
        self.dead: set[UUID] = set()
        """Supervisors of this host whose process is gone."""
        self.rescue_at: float | None = None
        """When to look again whether the workers of dead ones are gone, by the monotonic clock."""
        self.silent: set[UUID] = set()
        """Supervisors that have been silent for longer than the TTL."""
        self.keys = OpenKeys()
        """Of which rows that wait for limits may start."""
        self.newcomers = Newcomers()
        """Rows that wait for limits, and of which nothing may have told."""
        self.has_limits = False
        """Whether rows wait for limits, or the code knows of any."""
        self.doubtful = False
        """True if the claims in the database may differ from those that this supervisor knows."""

    @property
    def is_clear(self) -> bool:
        """Whether there is nothing to do but wait for ``due_at``."""
        rows = self.ready or self.look_for_due or self.doubtful or self.orphans
        rows = rows or self.keys.is_any_open
        return not (rows or self.dead or self.silent)

    def next_at(self, *, has_room: bool) -> float | None:
        """When something is to be done though nothing tells of it, by the monotonic clock.

        :param has_room: whether there is room for what waits for limits; if not, its coming tells.
        """
        ats = (self.due_at, self.rescue_at, self.keys.next_at(has_room=has_room))
        return min((at for at in ats if at is not None), default=None)

    def on_notify(self, status: str) -> None:
        """Note that rows may be ready, or scheduled earlier than any that is known.

        :param status: "new", "scheduled", ``store.HELD_NO_MORE``, or ``store.LIMITED`` with the ids
            of rows; any other word may be any of these.
        """
        if status == store.HELD_NO_MORE:
            self.doubt()
            return
        if status.startswith(store.LIMITED):
            self._on_limited(status.removeprefix(store.LIMITED))
            return
        if status not in (Task.STATUS_NEW, Task.STATUS_SCHEDULED):
            self._forget_times()
        self.ready = self.ready or status != Task.STATUS_SCHEDULED
        self.look_for_due = self.look_for_due or status != Task.STATUS_NEW
        self.wake.set()

    def _on_limited(self, told: str) -> None:
        ids = _ids(told)
        self.has_limits = True
        self.keys.note_rows(ids)
        self.newcomers.tell(ids)
        if not ids:
            self.keys.note_some()
        self.wake.set()

    def on_sight(self, sight: Sight, *, trusts_clock: bool) -> None:
        """Note what a beat saw.

        :param trusts_clock: whether supervisors may be called silent by the database's clock.
        """
        self.ready = self.ready or (sight.ready and not sight.paused)
        self._on_newcomers(sight)
        if sight.due_seconds is not None:
            self.expect(sight.due_seconds)
        self.orphans = self.orphans or sight.orphans
        self.dead.update(sight.dead)
        if trusts_clock:
            self.silent.update(sight.silent)
        else:
            self._forget_times()

    def _on_newcomers(self, sight: Sight) -> None:
        self.has_limits = self.has_limits or sight.newcomers is not None
        ids = self.newcomers.take(sight.newcomers)
        if ids is None:
            self.note_limited()
        else:
            self.keys.note_rows(ids)

    def on_settled(self, batch: Sequence[Settlement]) -> None:
        """Note that tasks went back to waiting: they may be ready, or due earlier than others."""
        for settlement in batch:
            if settlement.claim.limit_name is not None:
                self.keys.note_ended((settlement.claim.limit_name, settlement.claim.limit_key))
                if isinstance(settlement.decision, _WAITS_AGAIN):
                    self.keys.news.note_rows([settlement.claim.id])
                self.wake.set()
            match settlement.decision:
                case Retried(pause) | Postponed(pause) | Deferred(pause) | Interrupted(pause) if (
                    pause
                ):
                    self.expect(pause.total_seconds())
                case PutUnder(name, key):
                    self.keys.note([(name, key)])
                    self.keys.news.note_rows([settlement.claim.id])
                case Retried() | Postponed() | Suspected():
                    self.ready = True
                case GivenBack() if settlement.attempt:
                    self.ready = True
                case Failed() if _tells_here(settlement):
                    self.ready = True
                case _:  # it has ended; or it never started, as there was no room here
                    continue
            self.wake.set()

    def on_room(self) -> None:
        """Note that there is room for more tasks."""
        if self.ready or self.orphans or self.dead or self.keys.is_any_open:
            self.wake.set()

    def doubt(self) -> None:
        """Have the known claims compared with the database's before the next claim."""
        self.doubtful = self.ready = True
        self._forget_times()
        self.wake.set()

    def note_limited(self) -> None:
        """Note that rows may wait for limits of which nothing told, where there are such rows."""
        if self.has_limits:
            self.keys.note_some()

    def _forget_times(self) -> None:
        """Note that any row may start that waits for a limit, also before its time: a head that was
        not due may have been cancelled, or a limit may have got other rates."""
        if self.has_limits:
            self.keys.forget_times()

    def expect(self, due_seconds: float) -> None:
        """Note that a row is due in this time."""
        # Never later than a known time: what a beat saw may be older.
        due_at = time.monotonic() + due_seconds
        self.due_at = due_at if self.due_at is None else min(self.due_at, due_at)


def _ids(text: str) -> list[int]:
    """Return the ids of a payload; none of one that is no such thing."""
    parts = text.removeprefix(":").split(",")
    return [int(part) for part in parts if part.isdecimal()]


def _tells_here(settlement: Settlement) -> bool:
    """Tell whether a call was enqueued with this end, into the same queue."""
    call = settlement.on_error
    return call is not None and call.queue_name == settlement.claim.queue_name
