"""Tells from a row why a settle did not write it: it did before, or the row is locked or another's.

An answer may be lost after the statement took effect; so what was not written may have been.
"""

from __future__ import annotations

from enum import Enum
from uuid import UUID

from partisan_async.claim import Claim


class Why(Enum):
    """Why a statement left a settlement out."""

    WRITTEN = "written"
    """By an earlier attempt, of which no answer came."""
    LOCKED = "locked"
    """The claim is ours still: another transaction has locked the row."""
    FENCED = "fenced"
    """The claim is not ours any more."""


def judge(claim: Claim, row: tuple[int, UUID | None] | None, me: UUID, *, may_be_gone: bool) -> Why:
    """Return why it was left out.

    :param row: its ``claim_seq`` and ``claimed_by`` by now; ``None``: there is no such row.
    :param may_be_gone: whether what was to be written deletes the row.
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
