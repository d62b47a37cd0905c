"""How far one worker process is in its life, and what is waited for in it."""

from __future__ import annotations

import asyncio

from partisan_async.supervisor.workers.state import GONE, NOT_UP, State, may_follow


class Life:
    """The state of one process."""

    def __init__(self) -> None:
        self.state = State.STARTING
        self.over = asyncio.Event()
        """It is gone, or takes no more tasks: its slot needs another process."""
        self.empty = asyncio.Event()
        """It is gone, or takes no more tasks and has none."""

    @property
    def is_up(self) -> bool:
        """Whether the process has started, and is not gone."""
        return self.state not in NOT_UP

    @property
    def is_gone(self) -> bool:
        """Whether its link or its feed has ended."""
        return self.state in GONE

    def become(self, state: State) -> bool:
        """Go to a state; where it may not follow, stay, and return ``False``."""
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
        """Note that its link or its feed has ended: as it was told to, or by itself."""
        wanted = self.state in (State.CLOSING, State.KILLED)
        self.become(State.ENDED if wanted else State.DIED)

    def note_idle(self) -> None:
        """Note that no task is in it."""
        if self.state is State.TO_REPLACE:
            # Not before: where tasks come and go side by side, it would be long until it is idle,
            # and two processes would be in one worker's place.
            self.become(State.SPENT)
        if self.state is State.SPENT:
            self.empty.set()
