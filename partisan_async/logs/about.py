"""What lines about tasks share: how they name tasks, and what is on their records."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from partisan_async.claim import Claim
from partisan_async.text.printable import plain

logger = logging.getLogger("partisan_async")


def listed(claims: Sequence[Claim]) -> str:
    """Return the tasks' names, such as ": 7 Pay, 8 Greet"; ``""`` for none."""
    if not claims:
        return ""
    return ": " + ", ".join(f"{claim.id} {plain(claim.processor_class)}" for claim in claims)


def about(claim: Claim, event: str) -> dict[str, Any]:
    """Return what is on the record of a line about one task."""
    return {
        "event": event,
        "task_id": claim.id,
        "claim_seq": claim.claim_seq,
        "processor_class": claim.processor_class,
        "queue_name": claim.queue_name,
    }


def about_all(claims: Sequence[Claim], event: str) -> dict[str, Any]:
    """Return what is on the record of a line about several tasks."""
    return {"event": event, "task_ids": [claim.id for claim in claims]}
