"""A model of limits: what may start, of what waits, at a time. It knows no database.

A *head* of a key is one of the rows that are next there: by rank, then by id. Times are seconds.
Rates are counted by the database in hundredths of their windows, so that a start may be counted for
a little longer than a window: what the model says that *may* start is what no rate could forbid by
that, and what it calls *wrong* breaks a rate as it is declared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

Key = tuple[str, str | None]

SLACK = 1.02
"""A window with the granules at both its ends."""


@dataclass(frozen=True)
class Numbers:
    """What a limit allows; rates are pairs: so many within so many seconds."""

    running: int | None = None
    running_per_key: int | None = None
    rates: tuple[tuple[int, float], ...] = ()
    rates_per_key: tuple[tuple[int, float], ...] = ()
    in_order: bool = False


@dataclass(frozen=True)
class Row:
    """A task under a limit. ``status`` is ``scheduled``, ``limited``, ``in_process`` or ended."""

    id: int
    name: str
    key: str | None
    priority: int
    status: str
    after: float

    @property
    def whose(self) -> Key:
        return self.name, self.key


@dataclass(frozen=True)
class Start:
    """A claim, at the time that it counted with."""

    name: str
    key: str | None
    at: float


@dataclass
class Model:
    """All that there is at a moment."""

    limits: dict[str, Numbers]
    rows: dict[int, Row] = field(default_factory=dict)
    starts: list[Start] = field(default_factory=list)
    overrides: dict[Key, int] = field(default_factory=dict)
    """Of a limit as a whole with the key ``None``."""
    pauses: dict[Key, float] = field(default_factory=dict)

    # What happens

    def put(self, row: Row) -> None:
        self.rows[row.id] = row

    def move(self, pk: int, status: str, *, after: float | None = None) -> None:
        """Have a row in another status, and due at another time."""
        row = self.rows[pk]
        self.rows[pk] = replace(row, status=status, after=row.after if after is None else after)

    def go_back(self, pk: int, now: float, pause: float | None) -> None:
        """Have a row that ran wait again; ``None``: it was never begun."""
        row = self.rows[pk]
        in_place = row.key is not None and self.limits[row.name].in_order
        status = "limited" if not pause or in_place else "scheduled"
        self.move(pk, status, after=None if pause is None else round(now + pause, 3))

    def promote(self, now: float) -> None:
        for row in list(self.rows.values()):
            if row.status == "scheduled" and row.after <= now:
                self.move(row.id, "limited")

    def pause(self, whose: Key, until: float) -> None:
        until = round(until, 3)
        self.pauses[whose] = max(until, self.pauses.get(whose, until))

    def start(self, pk: int, at: float) -> None:
        row = self.rows[pk]
        self.move(pk, "in_process")
        self.starts.append(Start(row.name, row.key, at))

    # What may be

    def most(self, name: str, key: str | None = None, *, of_key: bool) -> int | None:
        """Return how many may run at once, of a key or of all."""
        limit = self.limits[name]
        if not of_key:
            return self.overrides.get((name, None), limit.running)
        if key is None:
            return None
        own = self.overrides.get((name, key))
        if limit.in_order:
            return 1 if own is None else min(1, own)
        return limit.running_per_key if own is None else own

    def running(self, name: str, key: str | None = None, *, of_key: bool) -> int:
        return sum(
            row.status == "in_process" and row.name == name and (not of_key or row.key == key)
            for row in self.rows.values()
        )

    def room(self, name: str, key: str | None, now: float, *, of_key: bool) -> float:
        """Return how many more may start now for certain, of a key or of all."""
        limit, room = self.limits[name], float("inf")
        if (most := self.most(name, key, of_key=of_key)) is not None:
            room = most - self.running(name, key, of_key=of_key)
        if of_key and self.pauses.get((name, key), now) > now:
            return 0
        for count, seconds in limit.rates_per_key if of_key else limit.rates:
            if of_key and key is None:
                continue
            spent = [at for at in self._times(name, key, of_key) if abs(now - at) < seconds * SLACK]
            room = min(room, count - len(spent))
        return max(0, room)

    def heads(self, whose: Key, now: float) -> list[Row]:
        """Return those of a key that may start together now for certain, in their order."""
        name, key = whose
        in_order = self.limits[name].in_order and key is not None
        waiting = [row for row in self.rows.values() if self._waits(row, whose)]
        waiting.sort(key=lambda row: (0 if self.limits[name].in_order else row.priority, row.id))
        if in_order:
            waiting = [row for row in waiting[:1] if row.after <= now]
        room = self.room(name, key, now, of_key=True)
        return [row for n, row in enumerate(waiting) if n < room]

    def turns(self, keys: Iterable[Key], now: float, count: int) -> dict[int, tuple[int, int, int]]:
        """Return who of these keys could start now, with the place that decides who does.

        :param count: how many are to start at most: of no key more are looked at.
        """
        found = {}
        for name, key in keys:
            running = 0 if key is None else self.running(name, key, of_key=True)
            for number, row in enumerate(self.heads((name, key), now)[:count], start=1):
                found[row.id] = (row.priority, running + number, row.id)
        return found

    def may_start(self, now: float) -> set[int]:
        """Return who may start now for certain, each by itself."""
        return {
            row.id
            for whose in {row.whose for row in self.rows.values()}
            if self.room(whose[0], None, now, of_key=False) > 0
            for row in self.heads(whose, now)
        }

    def opens_at(self, now: float) -> float | None:
        """Return when something may start for certain though nothing happens."""
        times = {row.after for row in self.rows.values() if row.status == "limited"}
        times |= set(self.pauses.values())
        for start in self.starts:
            limit = self.limits[start.name]
            for _, seconds in (*limit.rates, *limit.rates_per_key):
                times.add(start.at + seconds * SLACK)
        return next((at for at in sorted(times) if at > now and self.may_start(at)), None)

    # What is wrong

    def wrong(
        self, pks: Iterable[int], at: float, *, locked: frozenset[int] = frozenset()
    ) -> Iterator[str]:
        """Take in that these have started together, and yield what they break.

        :param locked: who could not be started, since somebody holds its row.
        """
        before = replace(self, rows=dict(self.rows), starts=list(self.starts))
        started = [before.rows[pk] for pk in pks]
        for row in started:
            if row.status != "limited":
                yield f"{row} started"
            if self.pauses.get(row.whose, at) > at:
                yield f"{row} started while its key is paused"
            self.start(row.id, at)
        for row in started:
            yield from self._too_many(row, at)
            yield from before._overtaken(row, {each.id for each in started} | locked, at)

    def _too_many(self, row: Row, at: float) -> Iterator[str]:
        for of_key in (False, True):
            most = self.most(row.name, row.key, of_key=of_key)
            if most is not None and (now := self.running(row.name, row.key, of_key=of_key)) > most:
                yield f"{now} of {row.whose if of_key else row.name} run, of {most}"
            limit = self.limits[row.name]
            for count, seconds in limit.rates_per_key if of_key else limit.rates:
                if of_key and row.key is None:
                    continue
                times = sorted(self._times(row.name, row.key, of_key))
                for first in times:
                    if sum(first <= each < first + seconds for each in times) > count:
                        yield f"{row.whose if of_key else row.name}: over {count} in {seconds} s"

    def _overtaken(self, row: Row, started: set[int], at: float) -> Iterator[str]:
        in_order = self.limits[row.name].in_order
        for each in self.rows.values():
            if each.whose != row.whose or each.id == row.id:
                continue
            if in_order and row.key is not None:
                if each.id < row.id and each.status in ("limited", "in_process"):
                    yield f"{row} has overtaken {each}"
                continue
            waits = each.status == "limited" and each.id not in started
            if waits and not in_order and (each.priority, each.id) < (row.priority, row.id):
                yield f"{row} has overtaken {each}"
        if in_order and row.key is not None and row.after > at:
            yield f"{row} was not due"

    def _waits(self, row: Row, whose: Key) -> bool:
        return row.status == "limited" and row.whose == whose

    def _times(self, name: str, key: str | None, of_key: bool) -> list[float]:
        return [
            each.at for each in self.starts if each.name == name and (not of_key or each.key == key)
        ]
