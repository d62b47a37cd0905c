"""``Limit``: how many tasks run at once, how often they start, in which order, and in turns.

A *key* tells the tasks under one limit apart: what ``limit_key()`` of their processor says of each.
A *start* is the beginning of a run, be it the first one of a task or a retry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass


@dataclass(frozen=True)
class Rate:
    """How often tasks may start: so many times in any window of so long.

    :param count: maximum number of starts in a window.
    :param per_seconds: length of the window in seconds, 0.1 or more.
    """

    count: int
    _: KW_ONLY
    per_seconds: float


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What must allow a task to start, over all supervisors and hosts.

    Where several parts are given, all of them hold. What cannot be is told by system checks, and by
    ``delay()``.

    :param running: maximum number of tasks that run at once.
    :param running_per_key: likewise, of each key.
    :param rates: how often tasks may start; several rates hold together.
    :param rates_per_key: likewise, of each key.
    :param in_order: whether the tasks of a key run one at a time, in the order of their ids: the
        next one starts when the one before has ended, also if that is retried or postponed.
    :param fair: whether keys take turns. They do under each limit with keys; this is for one that
        is to do nothing else.
    :param name: processors whose limits have one name share it; ``None``: it is the processor's
        own.
    """

    running: int | None = None
    running_per_key: int | None = None
    rates: Sequence[Rate] = ()
    rates_per_key: Sequence[Rate] = ()
    in_order: bool = False
    fair: bool = False
    name: str | None = None
