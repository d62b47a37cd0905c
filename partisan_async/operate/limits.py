"""What the tables say about limits and their keys. Only reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from partisan_async import store
from partisan_async.enqueue.run import fetch
from partisan_async.models import Limit
from partisan_async.operate.limit_statements import KEYS, LIMITS, SHOWN
from partisan_async.operate.limit_states import Keys, KeyState, LimitState, Pairs

__all__ = [
    "COUNTED",
    "KEYS_COUNTED",
    "SHOWN",
    "KeyState",
    "Keys",
    "LimitState",
    "keys",
    "limits",
]

COUNTED = 100_000
"""Maximum number of waiting tasks that are counted of each limit in a queue."""

KEYS_COUNTED = 10_000
"""Maximum number of waiting keys that are counted of each limit in a queue."""


def limits(at_most: int = COUNTED, keys_at_most: int = KEYS_COUNTED) -> list[LimitState]:
    """Return all limits, by name: those of supervisors' code, of waiting tasks and of overrides.

    :param at_most: stop counting the waiting tasks of each at this number.
    :param keys_at_most: likewise, their keys.
    """
    rows = fetch(LIMITS, {"at_most": at_most, "keys": keys_at_most})
    return [_state(row) for row in rows]


def _state(row: Sequence[Any]) -> LimitState:
    values = [*row]
    values[6:8] = map(_pairs, row[6:8])
    return LimitState(*values)


def keys(name: str, keys_at_most: int = KEYS_COUNTED) -> Keys:
    """Return the fullest keys of a limit: those that run or wait, are paused, or have numbers.

    :param keys_at_most: stop looking for waiting ones at this number.
    """
    limit = Limit.objects.using(store.database()).filter(pk=name).first()
    rows = fetch(KEYS, {"name": name, "keys": keys_at_most})
    found = [
        KeyState(key, running, _most(limit, own), waiting, counted, own, paused, rated)
        for key, running, waiting, counted, own, paused, rated, _ in rows
    ]
    return Keys(found, rows[0][-1] - len(rows) if rows else 0)


def _most(limit: Limit | None, own: int | None) -> int | None:
    if limit is None:
        return own
    if limit.in_order:
        return 1 if own is None else min(1, own)
    return limit.running_per_key if own is None else own


def _pairs(rates: Any) -> Pairs:
    return [(count, seconds) for count, seconds in json.loads(rates)]
