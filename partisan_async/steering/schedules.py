"""Switches schedules on and off, and leaves behind what is another place's of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from partisan_async import store
from partisan_async.enqueue.run import run
from partisan_async.enqueue.scheduled import key_of
from partisan_async.models import Schedule
from partisan_async.models.schedule import MADE
from partisan_async.registry import discovered_names
from partisan_async.steering import audit
from partisan_async.steering.rows import change


def switch_on(processor_classes: Sequence[str]) -> list[str]:
    """Switch schedules on, by their keys; return the keys of those that were off."""
    return _switch("switch-on", processor_classes, on=True)


def switch_off(processor_classes: Sequence[str]) -> list[str]:
    """Switch schedules off, by their keys; return the keys of those that were on."""
    return _switch("switch-off", processor_classes, on=False)


def leave_behind() -> list[str]:
    """Have no schedule of a copy tick for the original; return the keys of those switched off.

    Those that were made at run time are rows of the original's, as its tasks are. The others are in
    the code here, too: they go on, but catch up with no tick from before.
    """
    made = Schedule.objects.using(store.database()).filter(MADE, enabled=True)
    run(*store.recount_schedules())
    return switch_off(list(made.values_list("pk", flat=True)))


def _switch(action: str, processor_classes: Sequence[str], *, on: bool) -> list[str]:
    for name in processor_classes[:1]:
        discovered_names(name)
    rows = list({*processor_classes, *map(key_of, processor_classes)})
    switched = change(partial(store.switch_schedules, on=on), rows, store.STEERED)
    audit.put_down(action, switched, schedules=switched)
    return switched
