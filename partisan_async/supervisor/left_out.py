"""Tells from a row why a settle left it out: written before, locked, or another supervisor's.

Written before: an earlier statement took effect, and its answer was lost.
"""

from __future__ import annotations

from enum import Enum
from uuid import UUID

from partisan_async.claim import Claim


class Why(Enum):
    """The reason why a statement left a settlement out."""

    WRITTEN = "written"
    """An earlier attempt wrote the outcome, and its answer was lost."""
    LOCKED = "locked"
    """The claim is still ours, and another transaction has locked the row."""
    FENCED = "fenced"
    """The claim is not ours any more."""


def judge(claim: Claim, row: tuple[int, UUID | None] | None, me: UUID, *, may_be_gone: bool) -> Why:
    """Return why a settlement was left out.

    :param row: the row's ``claim_seq`` and ``claimed_by`` by now; ``None``: the row is gone.
    :param may_be_gone: whether the settlement may have deleted the row.
    """
    match row:
        case (claim.claim_seq, owner) if owner == me:
            return Why.LOCKED
        case (claim.claim_seq, None):
            return Why.WRITTEN
        case (seq, owner) if owner == me and seq == claim.claim_seq + 1:
            # I have it again, and nobody had it in between: I gave it back.
            return Why.WRITTEN
        case None if may_be_gone:
            return Why.WRITTEN
        case _:
            return Why.FENCED
