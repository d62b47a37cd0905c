"""The interface by which the pool reports the ends of tasks and of worker processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from partisan_async.claim import Claim
from partisan_async.policy import Outcome


class Listener(Protocol):
    """Handles what happens in the pool."""

    def on_ended(self, claim: Claim, outcome: Outcome, seconds: float, worker_id: str) -> None:
        """Handle the outcome of a run that is over, also by the death of its process."""

    def on_returned(self, claims: Sequence[Claim]) -> None:
        """Handle claims that come back because their tasks never started."""

    def on_interrupted(self, claim: Claim, seconds: float, worker_id: str) -> None:
        """Handle a run that was killed through no fault of its task."""

    def on_capacity(self) -> None:
        """Handle new room in a worker."""

    def on_death(self, *, killed: bool) -> None:
        """Handle the death of a worker process.

        :param killed: the supervisor killed it; else it died by itself.
        """
