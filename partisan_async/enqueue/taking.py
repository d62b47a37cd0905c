"""Takes digests for a transaction, so that no caller waits for another's.

The unique index makes whoever inserts an identical call wait for the end of the transaction that
inserts it already, however long that stays open; and two callers who wait for each other, there or
for a row of the site's, deadlock. So a digest is *taken* first, by an advisory lock that lasts as
long as the transaction and that is tried for and never waited for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from weakref import WeakKeyDictionary, ref

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

PAUSES_SECONDS = (0, 0, 0.005, 0.01, 0.02, 0.04)
"""Pauses before the attempts to take a digest that another transaction has: 75 ms in all."""

TAKEN_AT_MOST = 64
"""Maximum number of digests that a transaction takes. The server has one table of locks for all its
sessions; when that is full, everybody's statements fail."""


class Taken:
    """How many digests the open transaction of a connection has taken.

    Whoever registers something for the commit keeps it alive with that: it is gone with the
    transaction, also where that is rolled back.
    """

    def __init__(self) -> None:
        self.count = 0

    def has_room_for(self, count: int) -> bool:
        """Tell whether this many more may be taken; else they are inserted without being taken."""
        return self.count + count <= TAKEN_AT_MOST

    def keep(self, alias: str) -> None:
        """Have it last as long as the open transaction, where nothing else is registered."""

        def kept(_: Taken = self) -> None:
            """Be there, and do nothing."""

        transaction.on_commit(kept, using=alias, robust=True)


def taken_by(connection: BaseDatabaseWrapper) -> Taken:
    """Return what the open transaction of a connection has taken."""
    known = _taken.get(connection)
    taken = None if known is None else known()
    # Whoever keeps an error's frames may keep one of an ended transaction: with nothing registered
    # for the commit, none is of this one.
    if taken is None or not connection.run_on_commit:
        taken = Taken()
        if not connection.get_autocommit() and not connection.in_atomic_block:
            taken.count = TAKEN_AT_MOST  # nobody here knows when such a transaction ends
        _taken[connection] = ref(taken)
    return taken


_taken: WeakKeyDictionary[BaseDatabaseWrapper, ref[Taken]] = WeakKeyDictionary()


def attempts() -> Iterator[bool]:
    """Yield ``True`` for each attempt to insert with digests, and ``False`` for one without.

    Two rows rather than a wait: a duplicate does no more harm than a task that runs again.
    """
    for pause in PAUSES_SECONDS:
        if pause:
            time.sleep(pause)
        yield True
    yield False


def key_of(digest: bytes) -> int:
    """Return the number of the advisory lock that stands for a digest; ``store`` has it as SQL."""
    return int.from_bytes(digest[:8], "big", signed=True)
