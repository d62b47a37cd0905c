"""The *news* that other supervisors are to be told of: what waits under limits and may start there.

No NOTIFY of an enqueue tells of it: a slot came free here, or a row came to wait by what was done
here. It is told in a moment, if it is not made use of here until then.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable

from partisan_async.store import TOLD_AT_ONCE, Key

TELL_EVERY_SECONDS = 0.02
"""Least time between two times that others are told."""


class News:
    """What one supervisor's queue has to tell."""

    def __init__(self) -> None:
        self.freed: Counter[Key] = Counter()
        """How many of each key have ended here, and left a slot."""
        self._untold: dict[int, None] = {}
        self._tell_at = -math.inf

    @property
    def tell_at(self) -> float | None:
        """When to tell it, by the monotonic clock; ``None``: there is nothing."""
        return self._tell_at if self.freed or self._untold else None

    def note_rows(self, ids: Iterable[int]) -> None:
        """Keep in mind that nobody else knows that these rows wait."""
        self._untold.update(dict.fromkeys(ids))

    def forget_rows(self, ids: Iterable[int]) -> None:
        """Tell nothing of these rows: they were claimed here."""
        for pk in ids:
            self._untold.pop(pk, None)

    def take(self) -> tuple[dict[Key, int], list[int]]:
        """Return the keys of which tasks have ended, and how many; and the rows. None before time.

        There is no more room here for the keys.
        """
        if self.tell_at is None or time.monotonic() < self._tell_at:
            return {}, []
        self._tell_at = time.monotonic() + TELL_EVERY_SECONDS
        freed = dict(list(self.freed.items())[:TOLD_AT_ONCE])
        for key in freed:
            del self.freed[key]
        rows, self._untold = list(self._untold), {}
        return freed, rows
