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
    """Return the frame that tells how a task ended, and whether its time limit cut it off."""
    alarm = Alarm(limit)
    run = runs.begin()
    began = time.perf_counter()
    try:
        # A context of its own, so that a language or a context variable set by one task is not
        # there in the next.
        outcome = contextvars.copy_context().run(executor.execute, claim, alarm)
    except BaseException as error:  # noqa: BLE001  what it raised could not even be looked at
        outcome = unknown_outcome(error)
    alarm.stop()
    executor.end_forks()
    seconds = time.perf_counter() - began
    if alarm.rang:
        # Wherever it struck, no connection can be trusted to be where Django believes it.
        sessions.tidy(sessions.forget_all)
    failed = isinstance(outcome, Raised)
    sessions.tidy(sessions.end_run, claim, run, failed)
    runs.end(run, failed=failed)
    return done(ticket, seconds, alarm.rang, outcome), alarm.rang
