"""Runs sync tasks in the main thread, one after the other."""

from __future__ import annotations

import contextvars
import time

from partisan_async.claim import Claim
from partisan_async.policy import Raised
from partisan_async.worker import runs, sessions
from partisan_async.worker.alarm import Alarm
from partisan_async.worker.done import done, unknown_outcome
from partisan_async.worker.executor import Executor


def run_sync(
    executor: Executor, ticket: int, claim: Claim, limit: float | None
) -> tuple[bytes, bool]:
    """Run a task; return the frame about its end, and whether its time limit struck."""
    alarm = Alarm(limit)
    run = runs.begin()
    began = time.perf_counter()
    try:
        # In a context of its own, so that a language or a context variable that one task sets does
        # not leak into the next.
        outcome = contextvars.copy_context().run(executor.execute, claim, alarm)
    except BaseException as error:  # noqa: BLE001  even handling the task's error raised
        outcome = unknown_outcome(error)
    alarm.stop()
    executor.end_forks()
    seconds = time.perf_counter() - began
    if alarm.rang:
        # The alarm may have struck inside Django: its state of a connection may be wrong.
        sessions.tidy(sessions.forget_all)
    failed = isinstance(outcome, Raised)
    sessions.tidy(sessions.end_run, claim, run, failed)
    runs.end(run, failed=failed)
    return done(ticket, seconds, alarm.rang, outcome), alarm.rang
