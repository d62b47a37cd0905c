"""Knows which tasks are not to be started: all, while the queue is paused or the supervisor stops;
else those of paused processors.
"""

from __future__ import annotations

from collections.abc import Sequence

from partisan_async import logs
from partisan_async.claim import Claim


class Pauses:
    """The pauses of one supervisor, as its beats see them."""

    def __init__(self, queue_name: str) -> None:
        self.queue = False
        """Whether the queue is paused."""
        self.processors: frozenset[str] = frozenset()
        """The paused processors of the queue."""
        self.stopped = False
        """Whether the supervisor starts nothing more."""
        self._queue_name = queue_name

    @property
    def all(self) -> bool:
        """Whether nothing at all is to be started."""
        return self.stopped or self.queue

    def set_queue(self, paused: bool) -> bool:
        """Note whether the queue is paused; return whether it is now and was not before."""
        before, self.queue = self.queue, paused
        if paused and not before:
            logs.queues.paused(self._queue_name)
        elif before and not paused:
            logs.queues.resumed(self._queue_name)
        return paused and not before

    def set_processors(self, names: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
        """Note the paused processors; return the newly paused, and the resumed ones."""
        before, self.processors = self.processors, names
        for name in sorted(names - before):
            logs.queues.paused(self._queue_name, name)
        for name in sorted(before - names):
            logs.queues.resumed(self._queue_name, name)
        return names - before, before - names

    def split(self, claims: Sequence[Claim]) -> tuple[Sequence[Claim], Sequence[Claim]]:
        """Return the claims that may start, and those that are to be given back."""
        if self.all:
            return [], claims
        names = self.processors
        if not names:
            return claims, []
        held_back = [claim for claim in claims if claim.processor_class in names]
        return [claim for claim in claims if claim.processor_class not in names], held_back
