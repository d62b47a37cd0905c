"""The columns of a settlement: what each decision writes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, assert_never

from partisan_async.claim import Claim, Settlement
from partisan_async.exceptions import TaskCancelled
from partisan_async.models.status import Status
from partisan_async.policy import (
    Cancelled,
    Deferred,
    Failed,
    Finished,
    GivenBack,
    Interrupted,
    Postponed,
    PutUnder,
    Retried,
    Suspected,
)
from partisan_async.store.kept import encoded

_UNCHANGED: dict[str, Any] = {
    "status": Status.NEW.value,
    "pause": None,
    "tries": 0,
    "postpones": 0,
    "lost": 0,
    "suspect": False,
    "unrecognised": 0,
    "interrupted": 0,
    "failure": None,
    "result": None,
    "timed": False,
    "cut_off": False,
}


def columns(settlement: Settlement) -> dict[str, Any]:
    """Return what a settlement writes, by the names that ``settling`` uses."""
    claim, decision, attempt, _, _ = settlement
    row = _UNCHANGED | {
        "id": claim.id,
        "claim_seq": claim.claim_seq,
        "ran_seconds": attempt and attempt.seconds,
        "worker": attempt and attempt.worker_id,
    }
    match decision:
        case Finished(result):
            row |= {"status": Status.FINISHED.value, "tries": 1, "result": result}
        case Failed(failure, lost, rule):
            told = encoded(failure, rule=rule) if rule else encoded(failure)
            row |= {"status": Status.ERROR.value, "failure": told, "lost": int(lost)}
            row |= {"tries": 1} if attempt else {}
        case Cancelled(failure, reason):
            told = encoded(failure, cancelled=True, by=TaskCancelled.ITSELF, reason=reason)
            row |= {"status": Status.ERROR.value, "failure": told, "tries": 1}
        case Retried(pause, failure, rule, timed):
            seconds = pause.total_seconds()
            told = encoded(failure, rule=rule, pause_seconds=seconds) if rule else encoded(failure)
            row |= {"tries": 1, "failure": told, "timed": timed} | _waiting(pause)
        case Postponed(pause, failure, counted):
            why = failure and encoded(failure, postponed=True)
            row |= {"postpones": int(counted), "failure": why} | _waiting(pause)
        case Deferred(pause):
            row |= _as_claimed(claim) | {"unrecognised": 1} | _waiting(pause)
        case Suspected(failure):
            row |= {"suspect": True}
            row |= {"lost": 1, "failure": encoded(failure)} if failure else {}
        case PutUnder():  # by a statement of its own
            row |= _as_claimed(claim)
        case GivenBack(cut_off):
            row |= _as_claimed(claim) | {"cut_off": cut_off}
        case Interrupted(pause, _, counted):
            times = min(claim.interrupted + counted, 2**31 - 1)
            row |= _as_claimed(claim) | {"interrupted": times} | _waiting(pause)
        case _:
            assert_never(decision)
    return row


def _as_claimed(claim: Claim) -> dict[str, Any]:
    """Return the columns that keep the claim's values, since no run ended."""
    return {"suspect": claim.suspect, "interrupted": claim.interrupted}


def _waiting(pause: timedelta) -> dict[str, Any]:
    status = Status.SCHEDULED.value if pause else Status.NEW.value
    return {"status": status, "pause": pause.total_seconds()}
