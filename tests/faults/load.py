"""A steady mixed load: a client that enqueues tasks of all kinds in real transactions."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from django.db import InterfaceError, InternalError, OperationalError, connections, transaction
from django.utils import timezone

from partisan_async.models import Task
from partisan_async.processor import BaseTaskProcessor
from tests.faults import partisan_tasks as tasks

Make = Callable[[random.Random], BaseTaskProcessor]

MIX: list[tuple[float, Make]] = [
    (40, lambda rng: tasks.Noop(rng.random())),
    (8, lambda rng: tasks.Nap(round(rng.uniform(0.05, 0.3), 2))),
    (14, lambda rng: tasks.AsyncNap(round(rng.uniform(0.05, 0.5), 2))),
    (5, lambda rng: tasks.Stumble(rng.randint(1, 3))),
    (1, lambda rng: tasks.StumbleForEver()),
    (4, lambda rng: tasks.Snooze(rng.randint(1, 3), round(rng.uniform(0, 0.5), 2))),
    (3, lambda rng: tasks.AsyncSnooze(rng.randint(1, 3), round(rng.uniform(0, 0.5), 2))),
    (1, lambda rng: tasks.SnoozeForEver()),
    (2, lambda rng: tasks.Break()),
    (2, lambda rng: tasks.TellingBreak()),
    (1, lambda rng: tasks.AsyncBreak()),
    (8, lambda rng: tasks.Deposit()),
    (3, lambda rng: tasks.Parent(rng.randint(1, 3))),
    (1, lambda rng: tasks.BrokenParent(rng.randint(1, 3))),
    (5, lambda rng: tasks.Once(rng.randint(1, 5), seconds=0.02)),
    (4, lambda rng: tasks.OnceAgain(rng.randint(1, 5))),
    (4, lambda rng: tasks.OneByOne(rng.randint(1, 5), rng.random())),
]
"""What the load is made of, by weight. None of it harms its worker or takes long."""

ENDINGS: list[tuple[float, Make]] = [
    (5, lambda rng: tasks.AtomicDeposit()),
    (5, lambda rng: tasks.Publish(rng.randint(1, 2000))),
    (0.2, lambda rng: tasks.Publish(2**21)),
]
"""What ends in other ways: in a transaction, or with a result, which the database may refuse."""

LONG: list[tuple[float, Make]] = [(0.5, lambda rng: tasks.Nap(round(rng.uniform(2, 4), 1)))]

POISON: list[tuple[float, Make]] = [
    (0.2, lambda rng: tasks.Poison(rng.choice(["SIGKILL", "SIGSEGV", "exit"]))),
    (0.1, lambda rng: tasks.TellingPoison("SIGKILL")),
    (0.1, lambda rng: tasks.AsyncPoison("SIGKILL", round(rng.uniform(0, 0.3), 2))),
]


BURST_LENGTH = 40


def is_unique(call: BaseTaskProcessor) -> bool:
    """Tell whether another task may stand for a call."""
    return call.UNIQUE_FOR_PARAMS or call.UNIQUE is not None


class Load:
    """Enqueues until the end of its ``with`` block, in a thread of its own.

    :param rate: tasks per second. It does not catch up on what an absent database kept it from.
    :param seed: of what is enqueued, and how.
    :param mix: what is enqueued, by weight.
    :param bursts: how likely a transaction is one of many short tasks, which go out in batches, in
        the middle of which one kills its worker.
    """

    def __init__(
        self,
        *,
        rate: float = 40,
        seed: int = 0,
        mix: list[tuple[float, Make]] | None = None,
        bursts: float = 0,
    ) -> None:
        self.committed: set[int] = set()
        """Tasks whose commit was acknowledged."""
        self.rolled_back: set[int] = set()
        """Tasks whose transaction, or savepoint, was rolled back."""
        self._pause = 1 / rate
        self._bursts = bursts
        self._rng = random.Random(seed)
        self._weights, self._makes = zip(*(MIX if mix is None else mix), strict=True)
        self._stop = threading.Event()
        self.error: BaseException | None = None
        """What ended it before its time; the ``with`` block raises it in the end."""
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        if self.error is not None and not any(error):
            raise self.error

    def _run(self) -> None:
        due = time.monotonic()
        try:
            while not self._stop.wait(max(0.0, due - time.monotonic())):
                due = max(due, time.monotonic() - 1) + self._pause * self._enqueue()
        except BaseException as error:
            self.error = error
        finally:
            connections.close_all()

    def _enqueue(self) -> int:
        """Enqueue one transaction's tasks; return how many."""
        way = self._rng.choices(
            [self._alone, self._together, self._rolled_back, self._partly], [75, 15, 5, 5]
        )[0]
        count = 1 if way == self._alone else self._rng.randint(2, 5)
        calls = [make(self._rng) for make in self._rng.choices(self._makes, self._weights, k=count)]
        if self._rng.random() < self._bursts:
            way, calls = self._together, self._burst()
        try:
            way(calls)
        except (OperationalError, InterfaceError, InternalError):  # the last: it may not write
            # Whether it was committed is unknown, and nobody was told that it was.
            connections.close_all()
            time.sleep(0.05)
        return len(calls)

    def _burst(self) -> list[BaseTaskProcessor]:
        calls: list[BaseTaskProcessor] = [tasks.Trip(None) for _ in range(BURST_LENGTH)]
        calls[self._rng.randrange(BURST_LENGTH)] = tasks.Trip("SIGKILL")
        return calls

    def _delay(self, call: BaseTaskProcessor) -> Task:
        later = self._rng.random() < 0.05
        pause = timedelta(seconds=round(self._rng.uniform(0.2, 3), 1))
        return call.delay(execute_after=timezone.now() + pause if later else None)

    def _alone(self, calls: list[BaseTaskProcessor]) -> None:
        self.committed.add(self._delay(calls[0]).pk)

    def _together(self, calls: list[BaseTaskProcessor]) -> None:
        with transaction.atomic():
            pks = [self._delay(call).pk for call in calls]
        self.committed.update(pks)

    def _rolled_back(self, calls: list[BaseTaskProcessor]) -> None:
        with transaction.atomic():
            # A call that was ignored has its waiting twin's row, which stays.
            pks = [self._delay(call).pk for call in calls if not is_unique(call)]
            transaction.set_rollback(True)
        self.rolled_back.update(pks)

    def _partly(self, calls: list[BaseTaskProcessor]) -> None:
        with transaction.atomic():
            with transaction.atomic():
                gone = [self._delay(call).pk for call in calls[1:] if not is_unique(call)]
                transaction.set_rollback(True)
            kept = self._delay(calls[0]).pk
        self.committed.add(kept)
        self.rolled_back.update(gone)
