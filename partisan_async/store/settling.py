"""Settles claims: writes their outcomes, under a fence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from partisan_async.claim import Settlement
from partisan_async.models.status import ENDED_SQL, WAITING_SQL, Status
from partisan_async.policy import Finished
from partisan_async.store import on_error, stops, under_limits
from partisan_async.store.kept import kept
from partisan_async.store.patience import LOCK_PATIENCE_MILLISECONDS, PATIENCE
from partisan_async.store.settlement import columns
from partisan_async.store.statement import Statement, array, array_of_texts, rank
from partisan_async.store.tries import FIRST_TRIED_AT, STARTED_AT

# The fence: a row that another supervisor has rescued has another claim_seq and holder. It needs no
# `status`, since the check constraint ties that to claimed_by; and it must not have one: `status`
# allows the partial index on claimed_by, whose statistics promise one row, and the plan would read
# every row that I hold, dead ones too. For the same statistics no plain "=" and no constant for my
# id: reading the whole table would look cheaper than looking up each row by its id, as in _CLAIM.
FENCE = """t.id = ANY (ARRAY[d.id]) AND t.claim_seq IS NOT DISTINCT FROM d.claim_seq
    AND t.claimed_by IS NOT DISTINCT FROM d.me"""

# For a second attempt: it takes only unlocked rows, and drops the digests of those that wait again,
# so that it neither waits for a lock nor conflicts with an identical call.
FREE = f"""
AND t.id IN (SELECT t.id FROM partisan_async_task t JOIN d ON {FENCE}
             FOR {{lock}} OF t SKIP LOCKED)
"""  # noqa: S608

_WORKER_IDS = f"{kept('t.worker_ids')} || to_jsonb(d.worker)"

# A task that postpones itself again replaces its last reason: otherwise reasons would push its
# errors off the list.
_AGAIN = """d.failure::jsonb ? 'postponed' AND jsonb_typeof(t.errors) = 'array'
            AND t.errors -> -1 ? 'postponed'"""

# A task that failed gives its key up, though no index has ended rows: an operator of a release that
# knows no keys may retry it beside a twin.
_KEY = f"unique_key = CASE WHEN d.status <> '{Status.ERROR}' THEN t.unique_key END"

_GIVEN_FORM = f"""
{PATIENCE}, d AS MATERIALIZED (
    SELECT d.*, %(me)s::uuid AS me FROM patience CROSS JOIN unnest(
        %(id)s::bigint[], %(claim_seq)s::int[], %(status)s::text[], %(pause)s::float8[],
        %(tries)s::int[], %(postpones)s::int[], %(lost)s::int[], %(suspect)s::bool[],
        %(unrecognised)s::int[], %(interrupted)s::int[], %(ran_seconds)s::float8[],
        %(worker)s::text[], %(failure)s::text[], %(result)s::text[]{{arrays}})
    AS d (id, claim_seq, status, pause, tries, postpones, lost, suspect, unrecognised,
        interrupted, ran_seconds, worker, failure, result{{columns}}))
"""  # noqa: S608
_SETTLE_FORM = f"""UPDATE partisan_async_task t
SET {{more}}status = {{status}},
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
        ELSE COALESCE(t.started_at, {STARTED_AT}) END,
    last_attempted_at = CASE WHEN d.ran_seconds IS NULL THEN t.last_attempted_at
        ELSE {STARTED_AT} END,
    finished_at = CASE WHEN d.status IN {ENDED_SQL} THEN statement_timestamp() END,
    worker_ids = CASE WHEN d.worker IS NULL THEN t.worker_ids ELSE {_WORKER_IDS} END,
    errors = CASE WHEN d.failure IS NULL THEN t.errors
        ELSE CASE WHEN {_AGAIN} THEN t.errors - (-1) ELSE {kept("t.errors")} END
            || (d.failure::jsonb || jsonb_build_object(
                'try', t.tries::bigint + 1, 'at', statement_timestamp())) END,
    result = COALESCE(d.result::jsonb, t.result),
    digest = CASE WHEN %(gently)s AND d.status IN {WAITING_SQL} THEN NULL
        ELSE t.digest END,
    {_KEY}
FROM d WHERE {FENCE}
"""  # noqa: S608

_SETTLE = _GIVEN_FORM.format(arrays="", columns="") + _SETTLE_FORM.format(
    more="", status="d.status"
)
_GIVEN_TIMED = _GIVEN_FORM.format(arrays=", %(timed)s::bool[]", columns=", timed")
_SETTLE_TIMED = _GIVEN_TIMED + _SETTLE_FORM.format(
    more=f"{FIRST_TRIED_AT}\n    ", status="d.status"
)

# The next ones write all of that: what they are for is rare, and each form is one more plan.
_ARRAYS, _COLUMNS = ", %(timed)s::bool[], %(cut_off)s::bool[]", ", timed, cut_off"
_GIVEN_ALL = _GIVEN_FORM.format(arrays=_ARRAYS, columns=_COLUMNS)
_GIVEN_TOLD = _GIVEN_FORM.format(
    arrays=f"{_ARRAYS}{on_error.ARRAYS}", columns=f"{_COLUMNS}{on_error.COLUMNS}"
)
_ALL, _ALL_UNDER_LIMITS = (
    _SETTLE_FORM.format(more=f"{FIRST_TRIED_AT}{stops.SET}\n    ", status=status)
    for status in ("d.status", f"{under_limits.STATUS}, limit_rank = {rank('t')}")
)

# The same for a batch of runs that all finished without a result, as most do. It leaves out the
# columns that do not change, which halves its cost.
_FINISH = f"""
{PATIENCE}, d AS MATERIALIZED (
    SELECT id, claim_seq, ran_seconds, (%(workers)s::text[])[place] AS worker, %(me)s::uuid AS me
    FROM patience CROSS JOIN unnest(
        %(id)s::bigint[], %(claim_seq)s::int[], %(ran_seconds)s::float8[], %(worker)s::int[])
    AS d (id, claim_seq, ran_seconds, place))
UPDATE partisan_async_task t
SET status = '{Status.FINISHED}',
    claimed_by = NULL,
    claimed_at = NULL,
    tries = LEAST(t.tries::bigint + 1, 2147483647),
    suspect = false,
    started_at = COALESCE(t.started_at, {STARTED_AT}),
    last_attempted_at = {STARTED_AT},
    finished_at = statement_timestamp(),
    worker_ids = {_WORKER_IDS}
FROM d WHERE {FENCE}
"""  # noqa: S608

_DELETE = f"""
{PATIENCE}, d AS MATERIALIZED (
    SELECT d.*, %(me)s::uuid AS me FROM patience CROSS JOIN unnest(
        %(id)s::bigint[], %(claim_seq)s::int[]) AS d (id, claim_seq))
DELETE FROM partisan_async_task t USING d WHERE {FENCE}
"""  # noqa: S608


def settle(me: UUID, settlements: Sequence[Settlement], *, gently: bool = False) -> Statement:
    """Write the outcomes of my claims. Rows: the ids of the settled ones.

    If calls of an ``ON_ERROR`` are enqueued with it, each row has the id of its call, too, or
    ``None``.

    :param gently: for attempts after a unique violation or a lock timeout: skip rows that another
        transaction has locked, and drop the digests of rows that wait again, since an identical
        call may wait already.
    """
    free = FREE.format(lock="NO KEY UPDATE") if gently else ""
    runs = [
        (claim.id, claim.claim_seq, *attempt)
        for claim, decision, attempt, _, _ in settlements
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
        return settling(_FINISH, params | {"me": me}, free)
    rows = [columns(settlement) for settlement in settlements]
    written: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
    texts = {name: array_of_texts(written[name]) for name in ("failure", "result")}
    written |= texts | {"me": me, "gently": gently}
    limited = any(settlement.claim.limit_name is not None for settlement in settlements)
    update = (_ALL_UNDER_LIMITS if limited else _ALL) + free
    if any(settlement.told_by for settlement in settlements):
        told = written | on_error.params(settlements)
        return _patient(on_error.telling(_GIVEN_TOLD, update), told)
    if limited or any(written["cut_off"]):
        return settling(_GIVEN_ALL, written, update)
    return settling(_SETTLE_TIMED if any(written["timed"]) else _SETTLE, written, free)


def delete_finished(
    me: UUID, settlements: Sequence[Settlement], *, gently: bool = False
) -> Statement:
    """Delete the rows of my claims that finished; else as ``settle``."""
    params = {
        "me": me,
        "id": array(settlement.claim.id for settlement in settlements),
        "claim_seq": array(settlement.claim.claim_seq for settlement in settlements),
    }
    return settling(_DELETE, params, FREE.format(lock="UPDATE") if gently else "")


def settle_within(me: UUID, settlement: Settlement, *, delete: bool) -> Statement:
    """Write that my claim finished, in the transaction that did the task's work.

    It waits for a locked row without limit: a lock timeout would undo the work.
    """
    statement = delete_finished(me, [settlement]) if delete else settle(me, [settlement])
    return statement._replace(params=statement.params | {"patience": "0"})


def settling(sql: str, params: dict[str, Any], free: str) -> Statement:
    """Return a statement that writes claims, and reads the ids of those that it has written."""
    return _patient(f"{sql}{free} RETURNING t.id", params)


def _patient(sql: str, params: dict[str, Any]) -> Statement:
    return Statement(sql, params | {"patience": str(LOCK_PATIENCE_MILLISECONDS)})
