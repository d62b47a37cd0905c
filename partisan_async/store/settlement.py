"""The columns of a settlement: what each decision writes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, assert_never

from partisan_async.claim import Claim, Settlement
from partisan_async.models.status import Status
from partisan_async.policy import (
    Deferred,
    Failed,
    Finished,
    GivenBack,
    Interrupted,
    Postponed,
    Retried,
    Suspected,
)
from partisan_async.store.kept import encoded


def columns(settlement: Settlement) -> dict[str, Any]:
    """Return what a settlement writes, by the names that ``settling`` uses."""
    claim, decision, attempt, _ = settlement
    row: dict[str, Any] = {
        "id": claim.id,
        "claim_seq": claim.claim_seq,
        "status": Status.NEW.value,
        "pause": None,
        "tries": 0,
        "postpones": 0,
        "lost": 0,
        "suspect": False,
        "unrecognised": 0,
        "interrupted": 0,
        "ran_seconds": attempt and attempt.seconds,
        "worker": attempt and attempt.worker_id,
        "failure": None,
        "result": None,
    }
    match decision:
        case Finished(result):
            row |= {"status": Status.FINISHED.value, "tries": 1, "result": result}
        case Failed(failure, lost):
            row |= {"status": Status.ERROR.value, "failure": encoded(failure), "lost": int(lost)}
            row |= {"tries": 1} if attempt else {}
        case Retried(pause, failure):
            row |= {"tries": 1, "failure": encoded(failure)} | _waiting(pause)
        case Postponed(pause, failure):
            why = failure and encoded(failure, postponed=True)
            row |= {"postpones": 1, "failure": why} | _waiting(pause)
        case Deferred(pause):
            row |= _as_claimed(claim) | {"unrecognised": 1} | _waiting(pause)
        case Suspected(failure):
            row |= {"suspect": True}
            row |= {"lost": 1, "failure": encoded(failure)} if failure else {}
        case GivenBack():
            row |= _as_claimed(claim)
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
