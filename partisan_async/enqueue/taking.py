"""Takes digests for a transaction, so that no caller waits for another caller's transaction.

If two transactions insert an identical call, the unique index makes the second wait until the first
ends, however long that takes; and if the first waits for a lock of the second, they deadlock. So a
transaction *takes* a digest before it inserts: it tries an advisory lock, which it keeps to its
end, and never waits for that.
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
sessions; when it is full, statements of all sessions fail."""


class Taken:
    """Number of digests that the open transaction of a connection has taken.

    The callbacks registered for the commit keep this object alive. So it is gone when the
    transaction ends, also by a rollback.
    """

    def __init__(self) -> None:
        self.count = 0

    def has_room_for(self, count: int) -> bool:
        """Tell whether ``count`` more may be taken; else insert the calls without taking."""
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
    # The frames of a stored error may keep the object of an ended transaction alive. If nothing is
    # registered for the commit, the object is not of this transaction.
    if taken is None or not connection.run_on_commit:
        taken = Taken()
        if not connection.get_autocommit() and not connection.in_atomic_block:
            taken.count = TAKEN_AT_MOST  # no callback tells us when such a transaction ends
        _taken[connection] = ref(taken)
    return taken


_taken: WeakKeyDictionary[BaseDatabaseWrapper, ref[Taken]] = WeakKeyDictionary()


def attempts() -> Iterator[bool]:
    """Yield ``True`` for each attempt to insert with digests, then ``False`` for one without.

    A duplicate is better than a longer wait: it does no more harm than a task that runs twice.
    """
    for pause in PAUSES_SECONDS:
        if pause:
            time.sleep(pause)
        yield True
    yield False


def key_of(digest: bytes) -> int:
    """Return the number of the advisory lock that stands for a digest; ``store`` has it as SQL."""
    return int.from_bytes(digest[:8], "big", signed=True)
