"""Inserts calls that come late: after calls of the same transaction with higher digests.

Calls are inserted in the order of their digests, so that two transactions that insert the same
calls never wait for each other. A call comes late if its twin was claimed, or its digest taken,
when its turn was. It may then meet a transaction that waits for a call of ours: a deadlock, were it
to wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import OperationalError, transaction
from psycopg.errors import LockNotAvailable

from partisan_async.enqueue.run import fetch, run

PATIENCE_MILLISECONDS = 1
"""Time that a late insert waits for another transaction: so long may the two be in a deadlock, for
which the other's statement is ended if it is looked for just then."""


@contextmanager
def none_if_it_waits(alias: str, *, late: bool) -> Iterator[None]:
    """Undo the inserts within, and go on, if one has to wait for another transaction.

    :param late: whether they come late; others wait.
    """
    if not late:
        yield
        return
    try:
        with transaction.atomic(using=alias):
            ((patience,),) = fetch("SHOW lock_timeout", alias=alias)
            keep = "SELECT set_config('lock_timeout', %s, true)"
            run(keep, [f"{PATIENCE_MILLISECONDS}ms"], alias)
            yield
            run(keep, [patience], alias)
    except OperationalError as error:
        if not isinstance(error.__cause__, LockNotAvailable):
            raise
