"""A load of tasks under all kinds of limits, over 200 keys, and of some without any."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

from django.utils import timezone

from partisan_async.models import Task
from partisan_async.processor import BaseTaskProcessor
from tests.faults import partisan_tasks as others
from tests.faults.limited import partisan_tasks as tasks
from tests.faults.load import BURST_LENGTH, Load, Make

KEYS = {"partner": 50, "event": 60, "paced": 30, "turn": 40, "print": 20}
"""How many, of each kind."""

HOWS, WEIGHTS = zip(
    *{
        "return": 70,
        "stumble": 8,
        "postpone": 8,
        "pause": 1.5,
        "break": 4,
        "die": 0.5,
    }.items(),
    strict=True,
)


def key(kind: str, rng: random.Random) -> str:
    """Return one of the keys of a kind; some are drawn much more often than others."""
    return f"{kind} {int(KEYS[kind] * rng.random() ** 2)}"


def what(rng: random.Random, kind: str | None, longest: float) -> tuple[str, str | None, float]:
    """Return what a task is to do, its key, and how long it is to take."""
    (how,) = rng.choices(HOWS, WEIGHTS)
    return how, kind and key(kind, rng), round(rng.uniform(0, longest), 3)


MIX: list[tuple[float, Make]] = [
    (14, lambda rng: tasks.AskPartner(*what(rng, "partner", 0.15))),
    (10, lambda rng: tasks.AskPartnerToo(*what(rng, "partner", 0.3))),
    (24, lambda rng: tasks.Event(*what(rng, "event", 0.15))),
    (9, lambda rng: tasks.PacedEvent(*what(rng, "paced", 0.05))),
    (10, lambda rng: tasks.InTurn(*what(rng, "turn", 0.1))),
    (5, lambda rng: tasks.OnPrinter(*what(rng, "print", 0.1))),
    (6, lambda rng: tasks.OnGpu(*what(rng, None, 0.2))),
    (8, lambda rng: tasks.Message(*what(rng, None, 0.02))),
    (8, lambda rng: others.Noop(rng.random())),
    (4, lambda rng: others.Nap(round(rng.uniform(0, 0.2), 2))),
]


class LimitedLoad(Load):
    """Enqueues it: of different priorities, now and then many of a key at once."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**({"mix": MIX} | options))

    def _burst(self) -> list[BaseTaskProcessor]:
        kind, processor = self._rng.choice(
            [("partner", tasks.AskPartner), ("event", tasks.Event), ("print", tasks.OnPrinter)]
        )
        keys = [key(kind, self._rng) for _ in range(self._rng.randint(1, 4))]
        return [
            processor("return", self._rng.choice(keys), round(self._rng.uniform(0, 0.05), 3))
            for _ in range(BURST_LENGTH)
        ]

    def _delay(self, call: BaseTaskProcessor) -> Task:
        priority = self._rng.choice([1, 10, 10, 10, 20])
        later = self._rng.random() < 0.05
        pause = timedelta(seconds=round(self._rng.uniform(0.2, 3), 1))
        return call.delay(
            execute_after=timezone.now() + pause if later else None, priority=priority
        )
