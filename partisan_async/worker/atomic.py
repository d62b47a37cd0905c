"""Runs an ``ATOMIC`` task in one transaction with its settle: both are committed, or neither.

No other code in a worker writes to task rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from django.db import transaction

from partisan_async import logs, store
from partisan_async.claim import Claim
from partisan_async.enqueue.run import fetch
from partisan_async.exceptions import ClaimLost
from partisan_async.policy import RETURNED, Returned
from partisan_async.worker.cut_off import transaction_of


def run_atomic(
    claim: Claim, run: Callable[[], Returned], settle: Callable[[Returned, float], store.Statement]
) -> Returned:
    """Return the outcome of the run, already settled.

    :param run: does the work.
    :param settle: returns the statement that settles the claim, from the outcome and the seconds
        that the run took.
    :raises ClaimLost: the supervisor has lost the claim; all is rolled back.
    """
    alias = store.database()
    outcome = RETURNED
    committed: list[bool] = []
    began = time.monotonic()
    try:
        with transaction_of(alias):
            transaction.on_commit(partial(committed.append, True), using=alias)
            outcome = run()
            if not fetch(*settle(outcome, time.monotonic() - began), alias):
                raise ClaimLost(claim.id)
    except BaseException as error:
        if not committed:
            raise
        # A function that run() passed to on_commit() raised. The row is settled and stays so.
        logs.callbacks.failed_after_commit(claim, error)
    return replace(outcome, settled=True)
