"""The states of a worker process, and which may follow which.

The state does not say which tasks the process has: that is its *load*. In any state, a process that
has a suspect gets no more tasks.

| state | the process |
| --- | --- |
| `STARTING` | has not said hello yet |
| `READY` | takes tasks |
| `TO_REPLACE` | takes tasks until it is idle; then it is replaced |
| `SPENT` | takes no more tasks, and finishes those that it has |
| `CLOSING` | is idle, and was told to end |
| `GARBLED` | was killed because a task wrote garbage to its link; the task is to blame |
| `KILLED` | was killed by the supervisor; no task is to blame |
| `DIED` | has ended unexpectedly, or its feed or its link has |
| `ENDED` | has ended as the supervisor ordered |
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """The state of a worker process."""

    STARTING = "starting"
    READY = "ready"
    TO_REPLACE = "to replace"
    SPENT = "spent"
    CLOSING = "closing"
    GARBLED = "garbled"
    KILLED = "killed"
    DIED = "died"
    ENDED = "ended"


TAKES_TASKS = (State.READY, State.TO_REPLACE)

ENDS_IDLE = (State.TO_REPLACE, State.SPENT)
"""The process ends as soon as it is idle."""

GONE = (State.DIED, State.ENDED)
"""The link or the feed of the process has ended."""

NOT_UP = (State.STARTING, *GONE)


def may_follow(before: State, after: State) -> bool:
    """Tell whether a process may change from one state to the other."""
    return after in _MOVES[before]


_ENDS = (State.GARBLED, State.KILLED, State.DIED)
"""Possible at any time: a task, the system or the supervisor may kill a process."""

_MOVES: dict[State, tuple[State, ...]] = {
    State.STARTING: (State.READY, *_ENDS),
    State.READY: (State.TO_REPLACE, State.SPENT, State.CLOSING, *_ENDS),
    State.TO_REPLACE: (State.SPENT, State.CLOSING, *_ENDS),
    State.SPENT: (State.CLOSING, *_ENDS),
    State.CLOSING: (State.GARBLED, State.KILLED, State.ENDED),
    State.GARBLED: (State.KILLED, State.DIED),
    State.KILLED: (State.ENDED,),
    State.DIED: (State.ENDED,),
    State.ENDED: (),
}
