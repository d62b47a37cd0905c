"""Writes what became of claims, under a fence, and tells those who wait for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, assert_never
from uuid import UUID

from partisan_async.claim import Claim, Settlement
from partisan_async.models import Task
from partisan_async.policy import (
    Deferred,
    Failed,
    Failure,
    Finished,
    GivenBack,
    Interrupted,
    Postponed,
    Retried,
    Suspected,
)
from partisan_async.store.statement import Statement, array, array_of_texts

KEPT_PER_ROW = 10
"""So many of the newest errors and worker ids stay on a row."""


LOCK_PATIENCE_MILLISECONDS = 100
"""So long a settle waits for a row, or a digest, that another transaction has locked."""


# The fence: a row that was rescued and claimed anew has another claim_seq and holder. `status` must
# not be named: it would imply the partial index over claimed_by, whose statistics promise one row,
# and the plan would then read every row I hold, dead ones too. The check constraint ties the two.
# Nor may it be written with "=", or my id stand in it as a constant: the same statistics make
# reading the whole table look cheaper than looking each row up by its id, as for claims.
_FENCE = """t.id = ANY (ARRAY[d.id]) AND t.claim_seq IS NOT DISTINCT FROM d.claim_seq
    AND t.claimed_by IS NOT DISTINCT FROM d.me"""

# A row may be locked by somebody's open transaction, and so may a digest: by a caller that has
# inserted the twin and not committed. A batch must not wait for that. The setting lasts to the end
# of this statement's transaction: a session's own would not get through a transaction pooler.
PATIENCE = """
WITH patience AS MATERIALIZED (SELECT set_config('lock_timeout', %(patience)s, true))
"""

# For another attempt: it takes the rows that are free, and gives up the digests of those that go
# back to waiting, so that it has nothing to wait for, and no identical call to conflict with.
_FREE = f"""
AND t.id IN (SELECT t.id FROM partisan_async_task t JOIN d ON {_FENCE}
             FOR {{lock}} OF t SKIP LOCKED)
"""  # noqa: S608


def kept(column: str) -> str:
    # A row that was changed by hand must not keep its batch from being settled.
    return (
        f"CASE WHEN jsonb_typeof({column}) <> 'array' THEN '[]'::jsonb"
        f" WHEN jsonb_array_length({column}) < {KEPT_PER_ROW} THEN {column} ELSE {column} - 0 END"
    )


_STARTED_AT = "statement_timestamp() - make_interval(secs => d.ran_seconds)"
_WORKER_IDS = f"{kept('t.worker_ids')} || to_jsonb(d.worker)"

# A task that postpones itself a hundred times keeps the last reason, and its errors before that.
_AGAIN = """d.postpones > 0 AND jsonb_typeof(t.errors) = 'array' AND t.errors -> -1 ? 'postponed'"""

_SETTLE = f"""
{PATIENCE}, d AS MATERIALIZED (
    SELECT d.*, %(me)s::uuid AS me FROM patience CROSS JOIN unnest(
        %(id)s::bigint[], %(claim_seq)s::int[], %(status)s::text[], %(pause)s::float8[],
        %(tries)s::int[], %(postpones)s::int[], %(lost)s::int[], %(suspect)s::bool[],
        %(unrecognised)s::int[], %(interrupted)s::int[], %(ran_seconds)s::float8[],
        %(worker)s::text[], %(failure)s::text[], %(result)s::text[])
    AS d (id, claim_seq, status, pause, tries, postpones, lost, suspect, unrecognised,
        interrupted, ran_seconds, worker, failure, result))
UPDATE partisan_async_task t
SET status = d.status,
    claimed_by = NULL,
    claimed_at = NULL,
    execute_after = CASE WHEN d.pause IS NULL THEN t.execute_after
        ELSE statement_timestamp() + make_interval(secs => d.pause) END,
    tries = LEAST(t.tries::bigint + d.tries, 2147483647),
    postpones = LEAST(t.postpones::bigint + d.postpones, 2147483647),
    lost = LEAST(t.lost::bigint + d.lost, 2147483647),
    suspect = d.suspect,
    unrecognised = LEAST(t.unrecognised::bigint + d.unrecognised, 2147483647),
    interrupted = d.interrupted,
    started_at = CASE WHEN d.ran_seconds IS NULL THEN t.started_at
        ELSE COALESCE(t.started_at, {_STARTED_AT}) END,
    last_attempted_at = CASE WHEN d.ran_seconds IS NULL THEN t.last_attempted_at
        ELSE {_STARTED_AT} END,
    finished_at = CASE WHEN d.status IN ('finished', 'error') THEN statement_timestamp() END,
    worker_ids = CASE WHEN d.worker IS NULL THEN t.worker_ids ELSE {_WORKER_IDS} END,
    errors = CASE WHEN d.failure IS NULL THEN t.errors
        ELSE CASE WHEN {_AGAIN} THEN t.errors - (-1) ELSE {kept("t.errors")} END
            || (d.failure::jsonb || jsonb_build_object(
                'try', t.tries::bigint + 1, 'at', statement_timestamp())) END,
    result = COALESCE(d.result::jsonb, t.result),
    digest = CASE WHEN %(gently)s AND d.status IN ('new', 'scheduled') THEN NULL
        ELSE t.digest END
FROM d WHERE {_FENCE}
"""  # noqa: S608

# The same for runs that all finished and returned nothing to keep, as most do: without the columns
# that would say nothing, which cost as much as those that are left.
_FINISH = f"""
{PATIENCE}, d AS MATERIALIZED (
    SELECT id, claim_seq, ran_seconds, (%(workers)s::text[])[place] AS worker, %(me)s::uuid AS me
    FROM patience CROSS JOIN unnest(
        %(id)s::bigint[], %(claim_seq)s::int[], %(ran_seconds)s::float8[], %(worker)s::int[])
    AS d (id, claim_seq, ran_seconds, place))
UPDATE partisan_async_task t
SET status = 'finished',
    claimed_by = NULL,
    claimed_at = NULL,
    tries = LEAST(t.tries::bigint + 1, 2147483647),
    suspect = false,
    started_at = COALESCE(t.started_at, {_STARTED_AT}),
    last_attempted_at = {_STARTED_AT},
    finished_at = statement_timestamp(),
    worker_ids = {_WORKER_IDS}
FROM d WHERE {_FENCE}
"""  # noqa: S608

_DELETE = f"""
{PATIENCE}, d AS MATERIALIZED (
    SELECT d.*, %(me)s::uuid AS me FROM patience CROSS JOIN unnest(
        %(id)s::bigint[], %(claim_seq)s::int[])
    AS d (id, claim_seq))
DELETE FROM partisan_async_task t USING d WHERE {_FENCE}
"""  # noqa: S608


def settle(me: UUID, settlements: Sequence[Settlement], *, gently: bool = False) -> Statement:
    """Write what became of claims of mine. Rows: the ids of those that were written.

    :param gently: for the attempts after a unique violation or a lock timeout: leave out the
        rows that another transaction has locked; and a row that goes back to waiting gives its
        digest up, since an identical call waits, or may.
    """
    free = _FREE.format(lock="NO KEY UPDATE") if gently else ""
    runs = [
        (claim.id, claim.claim_seq, *attempt)
        for claim, decision, attempt, _ in settlements
        if attempt and isinstance(decision, Finished) and decision.result is None
    ]
    if len(runs) == len(settlements):
        ids, seqs, seconds, workers = zip(*runs, strict=True)
        names = {name: place for place, name in enumerate(dict.fromkeys(workers), start=1)}
        params = {
            "id": array(ids),
            "claim_seq": array(seqs),
            "ran_seconds": array(seconds),
            "worker": array(names[name] for name in workers),
            "workers": list(names),
        }
        return _settling(_FINISH, params | {"me": me}, free)
    rows = [_columns(settlement) for settlement in settlements]
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
    columns |= {name: array_of_texts(columns[name]) for name in ("failure", "result")}
    return _settling(_SETTLE, columns | {"me": me, "gently": gently}, free)


def delete_finished(
    me: UUID, settlements: Sequence[Settlement], *, gently: bool = False
) -> Statement:
    """Delete claims of mine that finished; as ``settle``."""
    params = {
        "me": me,
        "id": array(settlement.claim.id for settlement in settlements),
        "claim_seq": array(settlement.claim.claim_seq for settlement in settlements),
    }
    return _settling(_DELETE, params, _FREE.format(lock="UPDATE") if gently else "")


def settle_within(me: UUID, settlement: Settlement, *, delete: bool) -> Statement:
    """Write that a claim of mine finished, in the transaction that did its work.

    It waits for the row as long as it takes: the work must not be done again for a lock's sake.
    """
    statement = delete_finished(me, [settlement]) if delete else settle(me, [settlement])
    return statement._replace(params=statement.params | {"patience": "0"})


ENDS_CHANNEL = "partisan_async.ended"
"""Where ends are told to those who wait for them; see ``announce``."""

ENDS_TOLD_AT_ONCE = 300
"""So many ids make a payload: it may have 8,000 bytes."""


def announce(ids: Sequence[int]) -> Statement:
    """Tell those who wait for them that these rows have ended: their ids, with commas."""
    payloads = [
        ",".join(map(str, ids[start : start + ENDS_TOLD_AT_ONCE]))
        for start in range(0, len(ids), ENDS_TOLD_AT_ONCE)
    ]
    sql = """
    SELECT set_config('synchronous_commit', 'off', true), pg_notify(%(channel)s, payload)
    FROM unnest(%(payloads)s::text[]) AS p (payload)
    """
    return Statement(sql, {"channel": ENDS_CHANNEL, "payloads": payloads})


def announced(payload: str) -> list[str]:
    """Return the ids that ``announce`` tells, as text: anybody may have sent it."""
    return payload.split(",")


def _settling(sql: str, params: dict[str, Any], free: str) -> Statement:
    params["patience"] = str(LOCK_PATIENCE_MILLISECONDS)
    return Statement(f"{sql}{free} RETURNING t.id", params)


def _columns(settlement: Settlement) -> dict[str, Any]:
    claim, decision, attempt, _ = settlement
    row: dict[str, Any] = {
        "id": claim.id,
        "claim_seq": claim.claim_seq,
        "status": Task.STATUS_NEW,
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
            row |= {"status": Task.STATUS_FINISHED, "tries": 1, "result": result}
        case Failed(failure, lost):
            row |= {"status": Task.STATUS_ERROR, "failure": encoded(failure), "lost": int(lost)}
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
    """Return what stays as it was, since no run of it ended."""
    return {"suspect": claim.suspect, "interrupted": claim.interrupted}


def _waiting(pause: timedelta) -> dict[str, Any]:
    status = Task.STATUS_SCHEDULED if pause else Task.STATUS_NEW
    return {"status": status, "pause": pause.total_seconds()}


_KEPT = ("exception_class", "message", "traceback")


def encoded(failure: Failure, **more: bool | str) -> str:
    """Return what a row keeps of a failure, as JSON, with more beside it."""
    return json.dumps({name: getattr(failure, name) for name in _KEPT} | more)
