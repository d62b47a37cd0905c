"""The tasks in one worker process: which are open, which have started, and when. No I/O.

A *run* is one claim in one process: *open* until it is done or taken back, *started* once the
process has reported its start. Feed and link name a run by its *ticket*, a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from partisan_async.claim import Claim


@dataclass(slots=True, eq=False)
class Run:
    """One claim in one process.

    :param limit: its time limit in seconds; ``None``: none.
    """

    claim: Claim
    is_async: bool
    started_at: float | None = None
    limit: float | None = None


class Load:
    """The runs of one process.

    :param limit: maximum number of tasks that the process runs in its life.
    """

    def __init__(self, limit: float) -> None:
        self.runs: dict[int, Run] = {}
        """The open runs, by ticket."""
        self.remaining = limit
        """Number of tasks that the process may still be sent."""
        self.last_ticket = 0
        """Ticket of the last task that was sent; 0: none was."""
        self.open_sync = 0
        self.open_async = 0
        self.runs_suspect = False
        """True while a suspect is in the process."""
        self.only_short = False
        """True if all open sync tasks were sent as short ones."""
        self.asked_back = False
        """True between the request to hand back unstarted tasks and the answer."""
        self.busy_since: float | None = None
        """When the running sync task started; ``None``: none runs."""
        self.loop_waited_for_since: float | None = None
        """Since when async tasks wait and none has started; ``None``: none waits."""
        self.loop_blocked_until = 0.0
        """Until then, its event loop is considered blocked."""
        self._unstarted_async = 0

    @property
    def has_unstarted(self) -> bool:
        """True if a task in the process has not started."""
        waiting_sync = self.open_sync > 1 or (self.open_sync == 1 and self.busy_since is None)
        return waiting_sync or self._unstarted_async > 0

    def add(
        self, claims: Sequence[Claim], now: float, *, is_async: bool, alone: bool, short: bool
    ) -> list[tuple[int, Claim]]:
        """Add claims as open runs; return them with their tickets.

        :param alone: the claim is a suspect, which runs alone.
        :param short: the tasks are short, so that more may be sent ahead.
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
        """Close and return the runs that the process handed back.

        :param after: sync runs up to this ticket have started.
        :param upto: the last ticket that was asked for.
        """
        self.asked_back = False
        tickets = [
            ticket
            for ticket, run in self.runs.items()
            if ticket <= upto and (run.started_at is None if run.is_async else ticket > after)
        ]
        self.remaining += len(tickets)
        return [self._close(ticket, now) for ticket in tickets]

    def give_up(self) -> tuple[list[Run], list[Run]]:
        """Close all runs of a process that is gone; return the started ones, and the others.

        ``runs_suspect`` stays: the slot counts as a suspect's until it has another process.
        """
        runs = list(self.runs.values())
        self.runs.clear()
        self.open_sync = self.open_async = self._unstarted_async = 0
        started = [run for run in runs if run.started_at is not None]
        return started, [run for run in runs if run.started_at is None]

    def running(self, now: float) -> list[dict[str, Any]]:
        """Return the id, the processor and the seconds so far of each running task."""
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
