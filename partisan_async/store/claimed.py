"""Reads claimed rows: which ones a supervisor holds, and their present state."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from partisan_async.claim import Claim
from partisan_async.models.status import ENDED_SQL, Status
from partisan_async.store.claiming import COLUMNS
from partisan_async.store.parking import is_parked
from partisan_async.store.statement import Statement

_HELD = f"""
SELECT {COLUMNS} FROM partisan_async_task t
WHERE status = '{Status.IN_PROCESS}' AND claimed_by = %(me)s
"""  # noqa: S608


def held(me: UUID) -> Statement:
    """Read the claims I hold; see ``claims``."""
    return Statement(_HELD, {"me": me})


def arguments_of(me: UUID, claim: Claim) -> Statement:
    """Read the arguments of a claim that came without them. No row: I no longer hold the claim."""
    sql = """
    SELECT arguments::text FROM partisan_async_task
    WHERE id = %(id)s AND claim_seq = %(claim_seq)s AND claimed_by = %(me)s
    """
    return Statement(sql, {"id": claim.id, "claim_seq": claim.claim_seq, "me": me})


def look(claims: Sequence[Claim]) -> Statement:
    """Read the present state of claimed rows: id, claim_seq, holder and status."""
    sql = (
        "SELECT id, claim_seq, claimed_by, status FROM partisan_async_task WHERE id = ANY(%(ids)s)"
    )
    return Statement(sql, {"ids": [claim.id for claim in claims]})


def still_to_run(ids: Sequence[int], paused: Collection[str]) -> Statement:
    """Read which of these tasks run again by themselves, or do so now. Rows: their ids.

    :param paused: the processors that start nothing.
    """
    sql = f"""
    SELECT id FROM partisan_async_task t WHERE id = ANY(%(ids)s) AND NOT {is_parked("t")}
        AND status NOT IN {ENDED_SQL} AND processor_class <> ALL(%(paused)s::text[])
    """  # noqa: S608
    return Statement(sql, {"ids": list(ids), "paused": list(paused)})


def named(pk: int) -> Statement:
    """Read what a log line says about a row: claim_seq, processor_class and queue_name."""
    sql = """
    SELECT claim_seq, processor_class, queue_name FROM partisan_async_task WHERE id = %(id)s
    """
    return Statement(sql, {"id": pk})
