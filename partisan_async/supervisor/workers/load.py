"""What is in one worker process: which tasks are open and started, and since when. No I/O.

A *run* is one claim in one process: *open* until it is done or taken back, *started* once the
process said so. A *ticket* is the number by which feed and link name it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from partisan_async.claim import Claim


@dataclass(slots=True, eq=False)
class Run:
    """One claim in one process. ``limit``: the seconds that it may take, if there is a limit."""

    claim: Claim
    is_async: bool
    started_at: float | None = None
    limit: float | None = None


class Load:
    """The runs of one process.

    :param limit: how many tasks the process may run in its life.
    """

    def __init__(self, limit: float) -> None:
        self.runs: dict[int, Run] = {}
        """Those that are open, by ticket."""
        self.remaining = limit
        """How many more tasks it may be sent."""
        self.last_ticket = 0
        """The ticket of the task that it was sent last; 0: it was sent none."""
        self.open_sync = 0
        self.open_async = 0
        self.runs_suspect = False
        """It runs a suspect."""
        self.only_short = False
        """All its open sync tasks were sent as short ones."""
        self.asked_back = False
        """It was asked for the tasks that it has not started, and has not answered."""
        self.busy_since: float | None = None
        """When its running sync task began."""
        self.loop_waited_for_since: float | None = None
        """Since when it has async tasks to start and has started none."""
        self.loop_blocked_until = 0.0
        """Its event loop is taken to be blocked until then."""
        self._unstarted_async = 0

    @property
    def has_unstarted(self) -> bool:
        """Whether a task waits in it."""
        waiting_sync = self.open_sync > 1 or (self.open_sync == 1 and self.busy_since is None)
        return waiting_sync or self._unstarted_async > 0

    def add(
        self, claims: Sequence[Claim], now: float, *, is_async: bool, alone: bool, short: bool
    ) -> list[tuple[int, Claim]]:
        """Take tasks in; return them with their tickets.

        :param alone: it is a suspect.
        :param short: more of these may be queued in it.
        """
        self.runs_suspect = alone
        self.remaining -= len(claims)
        batch = []
        for claim in claims:
            self.last_ticket += 1
            self.runs[self.last_ticket] = Run(claim, is_async)
            batch.append((self.last_ticket, claim))
        if is_async:
            self.open_async += len(claims)
            self._unstarted_async += len(claims)
            self.loop_waited_for_since = self.loop_waited_for_since or now
        else:
            self.only_short = short and (self.only_short or not self.open_sync)
            self.open_sync += len(claims)
        return batch

    def start(self, ticket: int, limit: float | None, now: float) -> Run:
        """Note that a run has started, and return it."""
        run = self.runs[ticket]
        run.started_at = now
        run.limit = limit
        if run.is_async:
            self._count_unstarted_async(self._unstarted_async - 1, now)
            self.loop_blocked_until = 0.0
        else:
            self.busy_since = now
        return run

    def end(self, ticket: int, now: float) -> Run:
        """Note that a run is done, and return it."""
        run = self._close(ticket, now)
        if run.is_async:
            self.loop_blocked_until = 0.0
        else:
            self.busy_since = None
        return run

    def take_back(self, after: int, upto: int, now: float) -> list[Run]:
        """Return the runs that will not start, as the process answers; they are open no more."""
        self.asked_back = False
        tickets = [
            ticket
            for ticket, run in self.runs.items()
            if ticket <= upto and (run.started_at is None if run.is_async else ticket > after)
        ]
        self.remaining += len(tickets)
        return [self._close(ticket, now) for ticket in tickets]

    def give_up(self) -> tuple[list[Run], list[Run]]:
        """Return the runs that had started, and the others: the process is gone with all of them.

        ``runs_suspect`` stays: the slot is a suspect's until it has another process.
        """
        runs = list(self.runs.values())
        self.runs.clear()
        self.open_sync = self.open_async = self._unstarted_async = 0
        started = [run for run in runs if run.started_at is not None]
        return started, [run for run in runs if run.started_at is None]

    def running(self, now: float) -> list[dict[str, Any]]:
        """Return of each task that runs the id, the processor and since how many seconds."""
        return [
            {"id": run.claim.id, "processor": run.claim.processor_class, "seconds": now - started}
            for run in self.runs.values()
            if (started := run.started_at) is not None
        ]

    def _close(self, ticket: int, now: float) -> Run:
        run = self.runs.pop(ticket)
        if run.is_async:
            self.open_async -= 1
            if run.started_at is None:
                self._count_unstarted_async(self._unstarted_async - 1, now)
        else:
            self.open_sync -= 1
        if not self.runs:
            self.runs_suspect = False
        return run

    def _count_unstarted_async(self, count: int, now: float) -> None:
        self._unstarted_async = count
        self.loop_waited_for_since = now if count else None
