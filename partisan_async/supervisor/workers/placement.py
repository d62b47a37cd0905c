"""Chooses the slot for the next tasks, and how many it gets: one policy for each kind of task."""

from __future__ import annotations

import math
from collections.abc import Sequence

from partisan_async.supervisor.workers.slot import Slot

Place = tuple[Slot, int]
"""A slot, and the maximum number of tasks for it. A tuple: to make an object of a class takes
longer than to choose the slot."""


def of_suspect(slots: Sequence[Slot], spare: Slot | None) -> Place | None:
    """Place a suspect in a worker that has no other task."""
    spares = () if spare is None else (spare,)
    for slot in (*_open_to_suspects(slots), *spares):
        if slot.process.is_empty:
            return slot, 1
    return None


def are_busy(slots: Sequence[Slot]) -> bool:
    """Tell whether each slot that is open to suspects has a task."""
    return all(slot.process.load.runs for slot in _open_to_suspects(slots))


def of_async(slots: Sequence[Slot], count: int, concurrency: int, now: float) -> Place | None:
    """Place async tasks in the slot with the most room, but at most an even share of them."""
    rooms = {slot: slot.async_room(concurrency, now) for slot in slots}
    slot = max(slots, key=rooms.__getitem__, default=None)
    if slot is None or rooms[slot] < 1:
        return None
    sharing = sum(1 for room in rooms.values() if room > 0)
    return slot, min(rooms[slot], math.ceil(count / sharing))


def of_sync(slots: Sequence[Slot], count: int, ahead: int, now: float) -> Place | None:
    """Place sync tasks in the slot with the fewest open sync tasks, then the fewest async ones.

    Async tasks count, since they share the process.
    """
    takers = [slot for slot in slots if slot.takes_sync(ahead, now)]
    slot = min(takers, key=_crowd, default=None)
    if slot is None:
        return None
    return slot, int(min(count, slot.process.load.remaining))


def _crowd(slot: Slot) -> tuple[int, int]:
    load = slot.process.load
    return load.open_sync, load.open_async


def _open_to_suspects(slots: Sequence[Slot]) -> Sequence[Slot]:
    # One slot is kept free of suspects: they may take long, and other tasks must go on.
    suspects = sum(1 for slot in slots if slot.process.load.runs_suspect)
    return slots if suspects < max(1, len(slots) - 1) else ()
