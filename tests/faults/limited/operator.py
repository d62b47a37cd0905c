"""Somebody who changes what limits allow while tasks run, and takes it back."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime

from partisan_async import store
from tests.faults.limited.load import key
from tests.faults.limited.record import Key, Override
from tests.faults.site import Site

PAUSE_SECONDS = (2.0, 5.0)
"""Between two changes, at least and at most."""

_SET = """
INSERT INTO partisan_async_limitoverride (name, key, running) VALUES (%s, %s, %s)
ON CONFLICT (name, key) DO UPDATE SET running = excluded.running
"""

_CLEAR = "DELETE FROM partisan_async_limitoverride WHERE name = %s AND key IS NOT DISTINCT FROM %s"


class Operator:
    """Changes one thing at a time, at moments and by numbers that are drawn from a seed."""

    def __init__(self, site: Site, seed: int) -> None:
        self.made: list[Override] = []
        """What was done."""
        self._site = site
        self._rng = random.Random(seed)
        self._in_force: set[Key] = set()
        self._next_at = time.monotonic() + PAUSE_SECONDS[1]

    def act(self) -> None:
        """Do something, if it is time."""
        if time.monotonic() < self._next_at:
            return
        self._next_at = time.monotonic() + self._rng.uniform(*PAUSE_SECONDS)
        if self._in_force and self._rng.random() < 0.6:
            self._change(self._rng.choice(sorted(self._in_force, key=str)), None)
        else:
            self._change(*self._draw())

    def clear(self) -> None:
        """Take everything back."""
        for of in sorted(self._in_force, key=str):
            self._change(of, None)

    def _draw(self) -> tuple[Key, int]:
        rng = self._rng
        changes: list[tuple[Key, list[int]]] = [
            (("partner", None), [0, 1, 3, 12]),
            (("partner", key("partner", rng)), [0, 1, 4]),
            (("Event", None), [0, 2, 8]),
            (("Event", key("event", rng)), [0, 3]),
            (("OnGpu", None), [0, 1, 4]),
        ]
        of, numbers = rng.choice(changes)
        return of, rng.choice(numbers)

    def _change(self, of: Key, running: int | None) -> None:
        before = datetime.now(UTC)
        if running is None:
            self._site.execute(_CLEAR, *of)
            self._in_force.discard(of)
        else:
            self._site.execute(_SET, *of, running)
            self._in_force.add(of)
        self.made.append(Override(*of, running, before, datetime.now(UTC)))
        self._site.execute("SELECT pg_notify(%s, %s)", store.channel("default"), store.LIMITED)
