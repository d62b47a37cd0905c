"""``Unique``: which calls of a processor are the same, and what becomes of one that has a twin.

A *key* is what the same calls share. A *twin* of a call is a task with its key that counts: it
waits, or, with ``while_running``, runs. A *window* is the time after a ``delay()`` in which calls
with its key are ignored, whatever has become of the task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_has_windows = False


@dataclass(frozen=True, kw_only=True)
class Unique:
    """Which calls of a processor are the same, and what becomes of one that has a twin.

    What cannot be is told by system checks, and by ``delay()``.

    :param by: the parameters of ``run()`` that make two calls the same if their values are, in
        whatever way they are passed. Where ``run()`` has no parameters: names of keyword arguments,
        and positions. ``()``: all calls are the same; ``None``: those that are written the same.
    :param while_running: whether a task that runs is a twin, too.
    :param within_seconds: how long after a ``delay()`` calls are ignored, also when its task has
        ended and its row is gone; ``None``: no such time.
    :param on_twin: what a call does to a twin that waits. ``"ignore"``: nothing. ``"replace"``: it
        takes its place, with its own arguments, time and priority. ``"sooner"``: the twin gets the
        earlier time and the lower priority number of the two.
    """

    by: Sequence[str | int] | None = None
    while_running: bool = False
    within_seconds: float | None = None
    on_twin: Literal["ignore", "replace", "sooner"] = "ignore"

    def __post_init__(self) -> None:
        global _has_windows
        _has_windows = _has_windows or self.within_seconds is not None

    @property
    def is_plain(self) -> bool:
        """Whether it says nothing but which calls are the same."""
        return (self.while_running, self.within_seconds, self.on_twin) == (False, None, "ignore")


def has_windows() -> bool:
    """Tell whether this process has imported a ``Unique`` with ``within_seconds``."""
    return _has_windows
