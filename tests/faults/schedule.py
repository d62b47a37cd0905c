"""The soak's schedule: which faults come when, drawn from a seed. The same seed draws the same."""

from __future__ import annotations

import random
from dataclasses import dataclass

FIRST_SECONDS = 3.0
"""Until the first fault: everything is up and under load by then."""

LAST_SECONDS = 5.0
"""After the last one, before the load ends."""

PAUSE_SECONDS = (1.0, 5.0)
"""Between two faults, at least and at most."""

LASTING_SECONDS = (5.5, 9.0)
"""How long a fault lasts that is to outlast the lease."""

KINDS = {
    "kill a worker": 3,
    "kill a supervisor": 2,
    "kill a forkserver": 1,
    "replace a supervisor in order": 2,
    "terminate a backend": 3,
    "restart PostgreSQL": 1,
    "stop a supervisor past its lease": 1,
    "stop a supervisor and its workers past its lease": 1,
    "black-hole a supervisor past its lease": 1,
    "lose the acknowledgement of a statement": 1,
    "lose the acknowledgement of a settle": 1,
    "cut all connections of a supervisor": 1,
    "make the database read-only": 1,
    "have the database's clock jump": 1,
    "use up all connections": 1,
    "refuse results": 1,
    "stall the log of a supervisor": 1,
}
"""How often each comes in a round; a round has all of them, in an order that is drawn."""

PLACES = {
    "stop a supervisor past its lease": "stopped",
    "stop a supervisor and its workers past its lease": "stopped",
    "black-hole a supervisor past its lease": "black hole",
    "make the database read-only": "database",
    "have the database's clock jump": "database",
    "use up all connections": "database",
    "refuse results": "database",
    "stall the log of a supervisor": "log",
}
"""Those that last. Of two with one place the second waits for the end of the first."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done.

    :param at: seconds after the begin.
    :param victim: any number; modulo the number of candidates it is one of them.
    :param lasts: after so many seconds it is undone; 0 where there is nothing to undo.
    """

    at: float
    kind: str
    victim: int
    lasts: float = 0.0

    def __str__(self) -> str:
        lasts = f", for {self.lasts:g} s" if self.lasts else ""
        return f"{self.at:7.1f} s  {self.kind}{lasts} (victim {self.victim})"


def draw(seed: int, minutes: float, *, calm: float = 0.0) -> list[Fault]:
    """Return the faults of a soak, in their order.

    :param calm: seconds without any after each round.
    """
    rng = random.Random(seed)
    free_at = dict.fromkeys(PLACES.values(), 0.0)
    faults: list[Fault] = []
    round_: list[str] = []
    at = FIRST_SECONDS
    while True:
        if not round_:
            round_ = [kind for kind, count in KINDS.items() for _ in range(count)]
            rng.shuffle(round_)
            at = at + calm if faults else at
        kind, lasts = round_.pop(), 0.0
        if place := PLACES.get(kind):
            lasts = round(rng.uniform(*LASTING_SECONDS), 1)
            at = max(at, free_at[place])
            free_at[place] = round(at + lasts + PAUSE_SECONDS[0], 1)
        if at + lasts + LAST_SECONDS > 60 * minutes:
            return faults
        faults.append(Fault(at, kind, rng.randrange(1000), lasts))
        at = round(at + rng.uniform(*PAUSE_SECONDS), 1)
