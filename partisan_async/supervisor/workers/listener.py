"""Who is told what becomes of tasks and of their worker processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from partisan_async.claim import Claim
from partisan_async.policy import Outcome


class Listener(Protocol):
    """Who is told what happens in the pool."""

    def on_ended(self, claim: Claim, outcome: Outcome, seconds: float, worker_id: str) -> None:
        """A run is over, or was ended by its process's death."""

    def on_returned(self, claims: Sequence[Claim]) -> None:
        """These never started, and are the supervisor's to start again."""

    def on_interrupted(self, claim: Claim, seconds: float, worker_id: str) -> None:
        """It was killed while it ran, through no doing of its own."""

    def on_capacity(self) -> None:
        """A worker can take more than a moment ago."""

    def on_death(self, *, killed: bool) -> None:
        """A worker process ended: by the supervisor's own hand, or nobody had told it to."""
