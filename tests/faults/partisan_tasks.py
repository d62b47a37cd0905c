"""The processors of the fault tests and of the soak: each does one thing, and is in the ledger."""

from __future__ import annotations

import ast
import asyncio
import ctypes
import hashlib
import itertools
import json
import os
import random
import signal
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import InterfaceError, InternalError, OperationalError, connection, transaction

from partisan_async import registry
from partisan_async.config.processor_configs import ErrorsHandleConfig, PostponeConfig
from partisan_async.exceptions import PostponeTask, TaskTimeout
from partisan_async.processor import BaseTaskProcessor
from partisan_async.schedule import Cron, Every
from partisan_async.unique import Unique
from tests.faults.recorded import AsyncRecorded, Recorded

AGAIN_AFTER_FAULTS = ErrorsHandleConfig(
    retry_on_errors=[OperationalError, InterfaceError, InternalError],
    retries_count=1000,
    retry_pause=0.2,
)
"""For tasks that use the database, which may be away, or may not be written to."""


@registry.register
class Noop(Recorded):
    """Does nothing, whatever it is given."""

    def work(self):
        pass


@registry.register
class EveryFiveMinutes(Recorded):
    """Ticks by the clocks of a place where they are changed, in a queue of its own."""

    QUEUE_NAME = "cron"
    SCHEDULE = Cron("*/5 * * * *", time_zone="Europe/Berlin")

    def work(self):
        pass


@registry.register
class Metronome(Recorded):
    """Ticks several times a second, and leaves out none, in a queue of its own."""

    QUEUE_NAME = "metronome"
    SCHEDULE = Every(seconds=0.2, catch_up=True)

    def work(self):
        pass


@registry.register
class Errand(Recorded):
    """Is enqueued by schedules that are made at run time, in a queue of its own."""

    QUEUE_NAME = "errands"

    def work(self):
        pass


@registry.register
class Nap(Recorded):
    """Sleeps for so many seconds."""

    def work(self):
        time.sleep(self.args[0])


@registry.register
class AsyncNap(AsyncRecorded):
    """Sleeps for so many seconds on the event loop."""

    async def work(self):
        await asyncio.sleep(self.args[0])


@registry.register
class Stumble(Recorded):
    """Fails so many times, then returns."""

    RETRY_ON_ERROR_CONFIG = ErrorsHandleConfig(
        retry_on_errors=[TimeoutError], retries_count=3, retry_pause=0.1
    )

    def work(self):
        if self.task_obj.tries < self.args[0]:
            raise TimeoutError("not yet")


@registry.register
class StumbleForEver(Recorded):
    """Fails until no retry is left."""

    ENDS = "error"
    RETRY_ON_ERROR_CONFIG = ErrorsHandleConfig(
        retry_on_errors=[TimeoutError], retries_count=2, retry_pause=0
    )

    def work(self):
        raise TimeoutError("never")


@registry.register
class Snooze(Recorded):
    """Postpones itself so many times, by so many seconds, then returns."""

    def work(self):
        times, seconds = self.args
        if self.task_obj.postpones < times:
            raise PostponeTask(seconds)


@registry.register
class AsyncSnooze(AsyncRecorded):
    """The same on the event loop."""

    async def work(self):
        times, seconds = self.args
        if self.task_obj.postpones < times:
            raise PostponeTask(seconds)


@registry.register
class SnoozeForEver(Recorded):
    """Postpones itself until it may not any more."""

    ENDS = "error"
    POSTPONE_CONFIG = PostponeConfig(max_postpones=2)

    def work(self):
        raise PostponeTask(0)


@registry.register
class Break(Recorded):
    """Fails for good."""

    ENDS = "error"

    def work(self):
        raise ValueError("broken")


@registry.register
class AsyncBreak(AsyncRecorded):
    """Fails for good on the event loop."""

    ENDS = "error"

    async def work(self):
        raise ValueError("broken")


@registry.register
class Once(Recorded):
    """Is not added while an identical call waits; sleeps for as long as ``seconds`` says."""

    UNIQUE_FOR_PARAMS = True

    def work(self):
        time.sleep(self.kwargs.get("seconds", 0))


@registry.register
class OnceAgain(Recorded):
    """The same, and goes back to waiting, where identical calls may wait by then."""

    UNIQUE_FOR_PARAMS = True

    def work(self):
        if not self.task_obj.postpones:
            raise PostponeTask(0.05)


@registry.register
class OneByOne(Recorded):
    """Is not added until one of its key has ended, and goes back to waiting in between."""

    UNIQUE = Unique(by=(0,), while_running=True)

    def work(self):
        if not self.task_obj.postpones:
            raise PostponeTask(0.05)


@registry.register
class Deposit(Recorded):
    """Writes a row by Django's connection, in a transaction of its own."""

    RETRY_ON_ERROR_CONFIG = AGAIN_AFTER_FAULTS

    def work(self):
        with transaction.atomic(), connection.cursor() as cursor:
            claim = [self.task_obj.id, self.task_obj.claim_seq]
            cursor.execute("INSERT INTO faults_deposit (task_id, claim_seq) VALUES (%s, %s)", claim)


@registry.register
class AtomicDeposit(Deposit):
    """Writes it in the transaction that ends the task."""

    ATOMIC = True


@registry.register
class Publish(Recorded):
    """Returns a text of so many letters, which is kept, if the database takes it."""

    STORE_RESULT = True
    ENDS = "either"

    def work(self):
        return "x" * self.args[0]


@registry.register
class Parent(Recorded):
    """Enqueues so many tasks in a transaction, one more in a savepoint that it rolls back."""

    RETRY_ON_ERROR_CONFIG = AGAIN_AFTER_FAULTS

    def work(self):
        with transaction.atomic():
            for number in range(self.args[0]):
                Noop(self.task_obj.id, number).delay()
            with transaction.atomic():
                Noop(self.task_obj.id, "rolled back").delay()
                transaction.set_rollback(True)


@registry.register
class BrokenParent(Recorded):
    """Enqueues tasks in a transaction, and fails in it: none of them may run."""

    ENDS = "error"
    RETRY_ON_ERROR_CONFIG = AGAIN_AFTER_FAULTS

    def work(self):
        with transaction.atomic():
            for number in range(self.args[0]):
                Noop(self.task_obj.id, number, "rolled back").delay()
            raise ValueError("rolled back")


@registry.register
class Poison(Recorded):
    """Kills its worker every time, in the way that it is given."""

    ENDS = "error"
    POISON = True

    def work(self):
        die(self.args[0])


@registry.register
class AsyncPoison(AsyncRecorded):
    """Kills its worker every time, after so many seconds on the event loop."""

    ENDS = "error"
    POISON = True

    async def work(self):
        how, seconds = self.args
        await asyncio.sleep(seconds)
        die(how)


# What another task is told of


@registry.register
class Report(Recorded):
    """Is told of the end of another task: its argument is that task's id."""

    def work(self):
        pass


@registry.register
class TellingNap(Nap):
    ON_ERROR = Report


@registry.register
class TellingBreak(Break):
    ON_ERROR = Report


@registry.register
class AsyncTellingBreak(AsyncBreak):
    ON_ERROR = Report


@registry.register
class AtomicTellingBreak(Break):
    ATOMIC = True
    ON_ERROR = Report


@registry.register
class TellingStumble(StumbleForEver):
    ON_ERROR = Report


@registry.register
class TellingSnooze(SnoozeForEver):
    ON_ERROR = Report


@registry.register
class TellingPoison(Poison):
    ON_ERROR = Report


@registry.register
class TellingMisfit(Recorded):
    """Does not take what a row has, if that has anything."""

    ENDS = "error"
    ON_ERROR = Report

    def __init__(self):
        super().__init__()

    def work(self):
        pass


@registry.register
class Trip(Recorded):
    """Kills its worker once, if it is told how; and being short, it goes out in batches."""

    def work(self):
        if self.args[0] and not self.task_obj.lost:
            die(self.args[0])


def die(how: str) -> None:
    """End this process by SIGKILL, SIGSEGV or ``os._exit``."""
    match how:
        case "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        case "SIGSEGV":
            ctypes.string_at(0)
        case "exit":
            os._exit(7)
    raise AssertionError(f"it lives on after {how!r}")


# For faults of processes


@registry.register
class Stay(Recorded):
    """Runs until the file of this name is there."""

    def work(self):
        while not Path(self.args[0]).exists():
            time.sleep(0.05)


@registry.register
class AsyncStay(AsyncRecorded):
    """The same on the event loop."""

    async def work(self):
        while not Path(self.args[0]).exists():
            await asyncio.sleep(0.05)


@registry.register
class NapOnce(Recorded):
    """Sleeps for so many seconds under its first claim, and is done at once under any other."""

    def work(self):
        if self.task_obj.claim_seq == 1:
            time.sleep(self.args[0])


@registry.register
class AsyncNapOnce(AsyncRecorded):
    """The same on the event loop."""

    async def work(self):
        if self.task_obj.claim_seq == 1:
            await asyncio.sleep(self.args[0])


@registry.register
class NapUntilStopped(Recorded):
    """Makes way under its first claim once its supervisor stops, and is done under any other."""

    POSTPONE_CONFIG = PostponeConfig(max_postpones=0)

    def work(self):
        if self.task_obj.claim_seq == 1:
            while not self.stopping:
                time.sleep(0.01)
            raise PostponeTask(0)


@registry.register
class AsyncNapUntilStopped(AsyncRecorded):
    """The same on the event loop."""

    POSTPONE_CONFIG = PostponeConfig(max_postpones=0)

    async def work(self):
        if self.task_obj.claim_seq == 1:
            await self.until_stopping()
            raise PostponeTask(0)


@registry.register
class Dose(Recorded):
    """Kills its worker every time, if it is told how; and being short, it goes out in batches."""

    ENDS = "either"

    def work(self):
        if self.args[0]:
            die(self.args[0])


@registry.register
class TripAndStumble(Recorded):
    """Kills its worker at first, then fails once, and so comes back later as one that did that."""

    RETRY_ON_ERROR_CONFIG = ErrorsHandleConfig(
        retry_on_errors=[TimeoutError], retries_count=1, retry_pause=1
    )

    def work(self):
        if not self.task_obj.lost:
            die("SIGKILL")
        if not self.task_obj.tries:
            raise TimeoutError("not yet")


@registry.register
class HoldTheGilOnce(Recorded):
    """Under its first claim, adds so many zeros in C code: no thread of its process runs then."""

    def work(self):
        if self.task_obj.claim_seq == 1:
            sum(itertools.repeat(0, self.args[0]))


@registry.register
class Recurse(Recorded):
    """Calls itself until Python says that it is enough."""

    ENDS = "error"

    def work(self):
        self.work()


@registry.register
class Hog(Recorded):
    """Takes so many MiB, which are more than its process may have."""

    ENDS = "error"

    def work(self):
        hoard = [b"x" * 2**20 for _ in range(self.args[0])]
        raise AssertionError(f"it got all {len(hoard)} MiB")


@registry.register
class Hoard(Recorded):
    """Takes so many MiB and keeps them until somebody kills it, each time."""

    ENDS = "error"
    POISON = True

    def work(self):
        hoard = b"x" * (self.args[0] * 2**20)
        while hoard:
            time.sleep(0.05)


@registry.register
class NeverEnds(Recorded):
    """Never comes to an end by itself, in the way that it is given."""

    ENDS = "error"
    TIMEOUT_SECONDS = 1

    def work(self):
        go_on(self.args[0])


@registry.register
class TellingNeverEnds(NeverEnds):
    ON_ERROR = Report


@registry.register
class NeverEndsAtFirst(Recorded):
    """The same at its first try; the time limit is an error that it retries on."""

    TIMEOUT_SECONDS = 1
    RETRY_ON_ERROR_CONFIG = ErrorsHandleConfig(
        retry_on_errors=[TaskTimeout], retries_count=3, retry_pause=0
    )

    def work(self):
        if not self.task_obj.tries:
            go_on(self.args[0])


@registry.register
class AsyncNeverEnds(AsyncRecorded):
    """Never comes to an end by itself, in the way that it is given, on the event loop."""

    ENDS = "error"
    TIMEOUT_SECONDS = 1

    async def work(self):
        match self.args[0]:
            case "sleep":
                await asyncio.sleep(3600)
            case "query":
                await sync_to_async(go_on)("query")
            case "blocks the loop":
                go_on("sleep")
            case "deaf":
                while True:
                    with suppress(asyncio.CancelledError):
                        await asyncio.sleep(0.05)


class NewInThisRelease(Recorded):
    """A processor that supervisors with the setting ``FAULTS_OLD_RELEASE`` do not know."""

    def work(self):
        pass


if not getattr(settings, "FAULTS_OLD_RELEASE", False):
    registry.register(NewInThisRelease)

if _pause := getattr(settings, "FAULTS_SLOW_FORK_SECONDS", 0):
    # Time enough to do harm to a worker that has not reported yet.
    os.register_at_fork(after_in_child=lambda: time.sleep(_pause))


def go_on(how: str) -> None:
    """Do so for ever: in Python, asleep, in a query, in C code, or whatever is raised in it."""
    match how:
        case "loop":
            while True:
                pass
        case "sleep":
            time.sleep(3600)
        case "query":
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(3600)")
        case "C code":
            sum(itertools.repeat(0, 10**12))  # it holds the GIL, and heeds no signal
        case "deaf":
            while True:
                with suppress(BaseException):
                    time.sleep(0.05)
    raise AssertionError(f"it came to an end in {how!r}")


@registry.register
class Linger(Recorded):
    """Sleeps for so many seconds under its first claim, and for so many under any later one."""

    def work(self):
        first, later = self.args
        time.sleep(first if self.task_obj.claim_seq == 1 else later)


@registry.register
class Verify(Recorded):
    """Fails unless its first argument is what was enqueued: the second is its fingerprint."""

    def work(self):
        payload, expected = self.args
        if fingerprint(payload) != expected:
            raise ValueError(f"it is {payload!r}"[:200])


@registry.register
class Outcry(Recorded):
    """Raises what is hard to tell of, or returns it; ``OUTCRIES`` has the ways."""

    ENDS = "either"

    def work(self):
        name, *args = self.args
        return OUTCRIES[name](*args)


@registry.register
class Narrow(Recorded):
    """Takes one argument, and no other."""

    ENDS = "either"

    def __init__(self, only):
        super().__init__(only)

    def work(self):
        pass


def fingerprint(payload) -> str:
    """Return what two equal JSON values share."""
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()


def _raising(make):
    def cry(*args):
        raise make(*args)

    return cry


class _Unpicklable(Exception):
    def __init__(self):
        super().__init__(threading.Lock(), lambda: None)


class _Speechless(Exception):
    def __str__(self):
        raise RuntimeError("no words")

    __repr__ = __str__


class _Nameless(type):
    def __getattribute__(cls, name):
        raise RuntimeError(f"no {name}")


def _oddly_named(name):
    error = type("Odd", (Exception,), {})
    error.__qualname__ = name
    return error("odd")


def _tampered(seconds):
    error = PostponeTask(1)
    error.postpone_for_seconds = float(seconds) if seconds != "text" else seconds
    return error


OUTCRIES = {
    "say": _raising(ValueError),
    "a huge message": _raising(lambda: ValueError("x" * 50_000_000)),
    "many huge arguments": _raising(lambda: ValueError(*["x" * 1_000_000] * 20)),
    "unpicklable": _raising(_Unpicklable),
    "speechless": _raising(_Speechless),
    "nameless": _raising(_Nameless("Nameless", (Exception,), {})),
    "oddly named": _raising(lambda name: _oddly_named(ast.literal_eval(f"'{name}'"))),
    "lengthily named": _raising(lambda: _oddly_named("x" * 10_000_000)),
    "a group": _raising(lambda: ExceptionGroup("many", [ValueError(n) for n in range(1000)])),
    "leave": _raising(SystemExit),
    "interrupt": _raising(KeyboardInterrupt),
    "postpone": _raising(lambda seconds: PostponeTask(float(seconds))),
    "postpone, tampered with": _raising(_tampered),
    "a huge result": lambda: "x" * 50_000_000,
    "an unpicklable result": threading.Lock,
}


@registry.register
class Resume(Recorded):
    """Postpones itself once, by nothing, then sleeps for so many seconds."""

    def work(self):
        if not self.task_obj.postpones:
            raise PostponeTask(0)
        time.sleep(self.args[0])


@registry.register
class Increment(BaseTaskProcessor):
    """Adds one row, in the transaction that ends it; not in the ledger, which would commit.

    Its worker dies at the end of the first run if told to: when all is written and nothing
    committed, or when all is committed and nobody told.
    """

    ATOMIC = True
    RETRY_ON_ERROR_CONFIG = AGAIN_AFTER_FAULTS

    def run(self):
        time.sleep(random.uniform(0, 0.005))
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO faults_deposit VALUES (%s, %s)",
                [self.task_obj.id, self.task_obj.claim_seq],
            )
        time.sleep(random.uniform(0, 0.005))
        dies = self.kwargs.get("dies") if self.task_obj.claim_seq == 1 else None
        if dies == "before the commit":
            die("SIGKILL")
        if dies == "after the commit":
            transaction.on_commit(partial(die, "SIGKILL"))
