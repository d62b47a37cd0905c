"""Has claims that have not started wait for limits that their rows did not say."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from partisan_async.claim import Settlement
from partisan_async.models.status import Status
from partisan_async.policy import PutUnder
from partisan_async.store.patience import PATIENCE
from partisan_async.store.settling import FENCE, FREE, settling
from partisan_async.store.statement import Statement, array, array_of_texts

# The digest: see FREE.
_PUT_UNDER = f"""
{PATIENCE}, d AS MATERIALIZED (
    SELECT d.*, %(me)s::uuid AS me FROM patience CROSS JOIN unnest(
        %(id)s::bigint[], %(claim_seq)s::int[], %(name)s::text[], %(key)s::text[],
        %(in_order)s::bool[])
    AS d (id, claim_seq, name, key, in_order))
UPDATE partisan_async_task t
SET status = '{Status.LIMITED}', claimed_by = NULL, claimed_at = NULL,
    limit_name = d.name, limit_key = d.key,
    limit_rank = CASE WHEN d.in_order THEN 0 ELSE t.priority END,
    digest = CASE WHEN %(gently)s THEN NULL ELSE t.digest END
FROM d WHERE {FENCE}
"""  # noqa: S608


def put_under_limits(
    me: UUID, settlements: Sequence[Settlement], *, gently: bool = False
) -> Statement:
    """Have my claims that have not started wait for the limits that they start under; else as
    ``settle``."""
    put = [(claim, each) for claim, each, *_ in settlements if isinstance(each, PutUnder)]
    params = {
        "me": me,
        "gently": gently,
        "id": array(claim.id for claim, _ in put),
        "claim_seq": array(claim.claim_seq for claim, _ in put),
        "name": array_of_texts(each.name for _, each in put),
        "key": array_of_texts(each.key for _, each in put),
        "in_order": [each.in_order for _, each in put],
    }
    return settling(_PUT_UNDER, params, FREE.format(lock="NO KEY UPDATE") if gently else "")
