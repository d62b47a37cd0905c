"""How long open keys waited though a worker was free: told by samples of the audit.

A key is *open* when something of it could start. It is said to be so with some caution: a rate, or
a claim of the same limit that came between, has it begin to wait anew.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from partisan_async.limits import Limit, Rate
from tests.faults.history import Change, Record, State
from tests.faults.limited.record import Circumstances, Key
from tests.faults.limited.rules import Allowed, is_claim

EVERY = timedelta(seconds=0.25)

LOST_LEASE = timedelta(seconds=4 + 5 + 1)
"""After a fault it has run out by then, what its supervisor ran has been given up, and a beat has
come: only then a wait counts."""


class Wait(NamedTuple):
    """An open key's."""

    seconds: float
    key: Key
    task: int
    until: datetime


def waits(record: Record, around: Circumstances) -> Iterator[Wait]:
    """Yield the waits of open keys in calm, each where it ended."""
    sampler = _Sampler(record, around)
    for begin, end in around.calm:
        yield from sampler.between(begin + LOST_LEASE, end)


class _Sampler:
    def __init__(self, record: Record, around: Circumstances) -> None:
        self._around = around
        self._allowed = Allowed(around)
        self._changes = sorted(record.changes, key=lambda change: change.at)
        self._place = 0
        self._states: dict[int, State] = {}
        self._waiting: dict[Key, set[int]] = defaultdict(set)
        self._running: dict[Key, int] = defaultdict(int)
        self._whole: dict[str, int] = defaultdict(int)
        self._in_process = 0
        self._fewest_free = 0
        self._starts: dict[tuple[str, str | None, bool], list[float]] = defaultdict(list)
        self._claimed_since: set[Key | str] = set()
        self._pauses: dict[Key, list[tuple[float, float]]] = defaultdict(list)
        for pause in around.pauses:
            if pause.committed is not None:
                at = pause.committed.timestamp()
                self._pauses[pause.name, pause.key].append((at, pause.until))

    def between(self, begin: datetime, end: datetime) -> Iterator[Wait]:
        since: dict[Key, datetime] = {}
        at = begin
        while at <= end:
            self._go_on_until(at)
            open_now = {
                key for key, tasks in self._waiting.items() if tasks and self._open(key, at)
            }
            for key in [*since]:
                over = key not in open_now or self._fewest_free < 1
                if over or not self._claimed_since.isdisjoint({key, key[0]}):
                    yield self._wait(key, since.pop(key), at)
            if self._fewest_free >= 1:
                for key in open_now:
                    since.setdefault(key, at)
            self._claimed_since.clear()
            self._fewest_free = self._around.workers - self._in_process
            at += EVERY
        for key, began in since.items():
            yield self._wait(key, began, end)

    def _wait(self, key: Key, since: datetime, at: datetime) -> Wait:
        tasks = self._waiting[key]
        return Wait((at - since).total_seconds(), key, min(tasks, default=0), at)

    def _go_on_until(self, at: datetime) -> None:
        changes = self._changes
        while self._place < len(changes) and changes[self._place].at <= at:
            self._take_in(changes[self._place])
            self._place += 1

    def _take_in(self, change: Change) -> None:
        for state, by in ((change.old, -1), (change.new, 1)):
            if state is None:
                continue
            if state.status == "in_process":
                self._in_process += by
            if not state.limit:
                continue
            key = state.limit, state.key
            if state.status == "in_process":
                self._running[key] += by
                self._whole[state.limit] += by
            elif state.status == "limited":
                (self._waiting[key].add if by > 0 else self._waiting[key].discard)(change.task)
        self._fewest_free = min(self._fewest_free, self._around.workers - self._in_process)
        if change.new is not None:
            self._states[change.task] = change.new
        if is_claim(change):
            assert change.new is not None
            assert change.new.limit is not None
            key, at = (change.new.limit, change.new.key), change.at.timestamp()
            self._starts[(*key, True)].append(at)
            self._starts[change.new.limit, None, False].append(at)
            self._claimed_since.add(key)
            limit = self._around.limits[change.new.limit]
            if limit.running is not None or limit.rates:
                self._claimed_since.add(change.new.limit)

    def _open(self, key: Key, at: datetime) -> bool:
        name, own = key
        limit: Limit = self._around.limits[name]
        now = at.timestamp()
        # As a claim would, that was made at this moment.
        claim = Change(0, at, 0, None, None, "", begun=at)
        total, of_key = self._allowed.running(name, None, claim), None
        if own is not None:
            of_key = self._allowed.running(name, own, claim)
        if total is not None and self._whole[name] >= total:
            return False
        if of_key is not None and self._running[key] >= of_key:
            return False
        if any(_is_used_up(rate, self._starts[name, None, False], now) for rate in limit.rates):
            return False
        if own is not None and any(
            _is_used_up(rate, self._starts[name, own, True], now) for rate in limit.rates_per_key
        ):
            return False
        known = self._pauses.get(key, [])
        last = bisect_right(known, now, key=lambda pause: pause[0])
        if last and known[last - 1][1] > now:
            return False
        return not (limit.in_order and own is not None) or self._is_due(min(self._waiting[key]), at)

    def _is_due(self, task: int, at: datetime) -> bool:
        after = self._states[task].after
        return after is None or datetime.fromisoformat(after) <= at


def _is_used_up(rate: Rate, starts: list[float], now: float) -> bool:
    """Tell whether none may start, with the granules at both ends of the window."""
    first = bisect_left(starts, now - rate.per_seconds * 1.02)
    return bisect_right(starts, now) - first >= rate.count
