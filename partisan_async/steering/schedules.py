"""Switches schedules on and off."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from partisan_async import store
from partisan_async.registry import discovered_names, lasting_name
from partisan_async.steering import audit
from partisan_async.steering.rows import change


def switch_on(processor_classes: Sequence[str]) -> list[str]:
    """Switch schedules on; return the processors of those that were off."""
    return _switch("switch-on", processor_classes, on=True)


def switch_off(processor_classes: Sequence[str]) -> list[str]:
    """Switch schedules off; return the processors of those that were on."""
    return _switch("switch-off", processor_classes, on=False)


def _switch(action: str, processor_classes: Sequence[str], *, on: bool) -> list[str]:
    for name in processor_classes[:1]:
        discovered_names(name)
    rows = list({*processor_classes, *map(lasting_name, processor_classes)})
    switched = change(partial(store.switch_schedules, on=on), rows, store.STEERED)
    audit.put_down(action, switched, schedules=switched)
    return switched
