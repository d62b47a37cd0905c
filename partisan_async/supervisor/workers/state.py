"""The states of a worker process, and which may follow which.

One state says all that is known of a process's life. What is in it says the *load*: whether it runs
a suspect, too, which keeps it from more tasks in any state.

| state | it |
| --- | --- |
| `STARTING` | has not said hello yet |
| `READY` | takes tasks |
| `TO_REPLACE` | takes tasks, and is replaced as soon as it is idle |
| `SPENT` | takes no more tasks; those in it go on |
| `CLOSING` | is idle, and was told to end |
| `GARBLED` | is killed for a task that wrote garbage to its link; the death is the task's |
| `KILLED` | is killed by the supervisor; the death is no task's |
| `DIED` | has ended, or its feed or its link has, and nobody had told it to |
| `ENDED` | has ended, as the supervisor wanted |
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """How far a worker process is in its life."""

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
"""It ends as soon as it is idle."""

GONE = (State.DIED, State.ENDED)
"""Its link or its feed has ended."""

NOT_UP = (State.STARTING, *GONE)


def may_follow(before: State, after: State) -> bool:
    """Tell whether a process goes from one state to the other."""
    return after in _MOVES[before]


_ENDS = (State.GARBLED, State.KILLED, State.DIED)
"""They come at any time: a task or the system may end a process, or the supervisor by a signal."""

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
