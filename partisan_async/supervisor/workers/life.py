"""The state of one worker process, and the events that others wait for."""

from __future__ import annotations

import asyncio

from partisan_async.supervisor.workers.state import GONE, NOT_UP, State, may_follow


class Life:
    """The state of one process."""

    def __init__(self) -> None:
        self.state = State.STARTING
        self.over = asyncio.Event()
        """Set when the process is gone or takes no more tasks: its slot needs another process."""
        self.empty = asyncio.Event()
        """Set when the process is gone, or takes no more tasks and has none."""

    @property
    def is_up(self) -> bool:
        """True if the process has started and is not gone."""
        return self.state not in NOT_UP

    @property
    def is_gone(self) -> bool:
        """True if its link or its feed has ended."""
        return self.state in GONE

    def become(self, state: State) -> bool:
        """Change to a state; return ``False`` and stay if it may not follow the current one."""
        if not may_follow(self.state, state):
            return False
        self.state = state
        if state is State.SPENT:
            self.over.set()
        elif state in GONE:
            self.over.set()
            self.empty.set()
        return True

    def end(self) -> None:
        """Note that its link or its feed has ended."""
        wanted = self.state in (State.CLOSING, State.KILLED)
        self.become(State.ENDED if wanted else State.DIED)

    def note_idle(self) -> None:
        """Note that the process has no task."""
        if self.state is State.TO_REPLACE:
            # Not earlier: if async tasks keep the process busy, it would run for long beside its
            # successor, and two processes would be in one slot.
            self.become(State.SPENT)
        if self.state is State.SPENT:
            self.empty.set()
