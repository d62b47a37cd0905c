"""Claims tasks that wait for limits, as a supervisor does, but by the test's clock.

In one thread no task runs beside another one. So what holds a task up here is its order, a rate, a
pause of its key, and a limit of 0.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Min

from partisan_async import store
from partisan_async.claim import Claim
from partisan_async.enqueue.run import fetch, run
from partisan_async.models import Task
from partisan_async.models.status import Status
from partisan_async.supervisor.allowances import declared_limits
from partisan_async.testing.clock import counted_at
from partisan_async.testing.contained import setting_kept

# One that was due when it was enqueued, by the database's clock, is due whatever the test's says.
_MAKE_DUE = f"""
UPDATE partisan_async_task SET execute_after = %(moment)s
WHERE status = '{Status.LIMITED}' AND queue_name = %(queue_name)s AND claim_seq = 0
    AND execute_after > %(moment)s
"""  # noqa: S608

_LEAST_SECONDS = 0.001
"""Least pause before the next look: a time may have come out a little too early."""


class Limited:
    """Claims under limits for one call of the kit.

    :param ttl: how long the supervisor that claims is alive after a beat.
    """

    def __init__(self, me: UUID, alias: str, ttl: datetime.timedelta) -> None:
        self.opens: datetime.datetime | None = None
        """When the next of those that were looked at may start; ``None``: no time allows it."""
        self._me = me
        self._alias = alias
        self._ttl = ttl
        self._knows_limits = False

    def claim_next(
        self, queue_name: str, among: store.Among, moment: datetime.datetime
    ) -> list[Claim]:
        """Claim the task that may start next, unless a ready one comes before it."""
        self._set_limits()
        due = {"queue_name": queue_name, "moment": moment}
        run(_MAKE_DUE, due, self._alias)
        waiting = Task.objects.using(self._alias).filter(status=Status.LIMITED)
        by_key = waiting.filter(queue_name=queue_name).values_list("limit_name", "limit_key")
        # Here the turns of keys go by ids: what a test enqueues first, runs first.
        found = by_key.annotate(first=Min("pk")).order_by("first")
        keys = [(name, key) for name, key, _ in found]
        return self._claim(queue_name, keys, among, moment) if keys else []

    def _claim(
        self,
        queue_name: str,
        keys: Sequence[store.Key],
        among: store.Among,
        moment: datetime.datetime,
    ) -> list[Claim]:
        lock, claim = store.claim_limited(self._me, queue_name, 1, self._ttl, keys, among=among)
        patience = setting_kept("idle_in_transaction_session_timeout", self._alias)
        with patience, transaction.atomic(using=self._alias):
            self._execute(lock)
            claims, verdicts = store.outcome(self._execute(counted_at(claim, moment)))
        for each in verdicts:
            self._note(each, moment)
        return claims

    def _note(self, verdict: store.Verdict, moment: datetime.datetime) -> None:
        waits = [each for each in (verdict.seconds, verdict.whole_seconds) if each is not None]
        if waits and (verdict.left or verdict.more):
            opens = moment + datetime.timedelta(seconds=max(*waits, _LEAST_SECONDS))
            self.opens = opens if self.opens is None else min(opens, self.opens)

    def _set_limits(self) -> None:
        """Write what the code allows, as a supervisor does when it starts."""
        if self._knows_limits:
            return
        self._knows_limits = True
        with setting_kept("lock_timeout", self._alias):
            self._execute(store.set_limits(self._me, declared_limits(), self._ttl))
        for (name,) in self._execute(store.unranked()):
            while self._execute(store.rank(name))[0][0]:
                pass

    def _execute(self, statement: store.Statement) -> list[Any]:
        return fetch(*statement, self._alias)
