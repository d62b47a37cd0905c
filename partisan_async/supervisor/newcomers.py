"""The *newcomers*: rows that wait for limits, and of which no NOTIFY may have told.

Whoever enqueues one may die between the commit and the NOTIFY. So the beat looks at the rows that
came since a *mark*, an id, and tells which keys to look at; or that all are to be walked over,
where there are too many, or where transactions were open as the mark was set that have ended since.
"""

from __future__ import annotations

from collections.abc import Iterable

from partisan_async.store import LOOKED_AT_MOST, Behind


class Newcomers:
    """What one supervisor knows of them."""

    def __init__(self) -> None:
        self.mark: int | None = None
        """The next beat looks at the rows with higher ids; ``None``: at none."""
        self._next: Behind | None = None
        self._told: set[int] = set()
        self._open_until: int | None = None

    def tell(self, ids: Iterable[int]) -> None:
        """Note that NOTIFY has told of these rows."""
        if self.mark is not None:
            self._told.update(ids)

    def take(self, seen: Behind | None) -> list[int] | None:
        """Return the ids of rows of which nothing has told; ``None``: any may be there.

        :param seen: what a beat saw behind the mark; ``None``: no row waits for a limit.
        """
        if seen is None or seen.last_id is None:
            self._begin_at(seen)
            return [] if seen is None else None
        if self.mark is None or not seen.is_all or self._is_stale(seen):
            self._begin_at(seen)
            return None
        untold = [pk for pk in seen.ids if pk not in self._told]
        self._told.update(untold)
        self._move_on(seen)
        if self._open_until is not None and seen.oldest >= self._open_until:
            self._open_until = None
            return None
        return untold

    def _move_on(self, seen: Behind) -> None:
        if self._next is None:
            self._next = seen
        elif seen.oldest >= self._next.following:
            # What was open when that id was the last one has ended, and was looked at now.
            self.mark, self._next = self._next.last_id, seen
            self._told = {pk for pk in self._told if self.mark is None or pk > self.mark}

    def _begin_at(self, seen: Behind | None) -> None:
        self.mark = None if seen is None else seen.last_id
        self._open_until = None if seen is None else seen.following
        self._next = None
        self._told.clear()

    def _is_stale(self, seen: Behind) -> bool:
        """Tell whether the mark is of another database, such as one that was restored; or whether
        more is kept in mind than a beat would look at."""
        assert self.mark is not None
        assert seen.last_id is not None
        later = self._next
        is_back = seen.last_id < self.mark or (later is not None and seen.oldest < later.oldest)
        return is_back or len(self._told) > LOOKED_AT_MOST
