"""Sends the signals of an end that no worker has seen, such as its own death."""

from __future__ import annotations

import json

from django.db import connections

from partisan_async.claim import Claim
from partisan_async.policy import Decision
from partisan_async.processor import BaseTaskProcessor
from partisan_async.worker.row import row_of


def tell_of_loss(
    processor_class: type[BaseTaskProcessor], claim: Claim, decision: Decision
) -> None:
    """Send them, in a thread of their own: receivers may block, and ask the database."""
    try:
        arguments = None if claim.arguments is None else json.loads(claim.arguments)
        processor_class._tell_loss(row_of(claim, arguments), decision)  # noqa: SLF001
    finally:
        connections.close_all()
