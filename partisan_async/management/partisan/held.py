"""Tasks that a command makes runnable, and that still wait for the end of a processor's pause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from django.core.management.base import BaseCommand

from partisan_async import registry, store
from partisan_async.models import Task
from partisan_async.operate import overview
from partisan_async.operate.overview import PauseState
from partisan_async.text.printable import plain


def count_held(
    name: str, batches: Iterable[list[int]], held: Counter[PauseState]
) -> Iterator[list[int]]:
    """Yield the batches; count in ``held`` the tasks that wait for the end of each pause."""
    runs = name in ("retry", "run-now")
    pauses = pauses_that_hold() if runs else []
    for batch in batches:
        for pause in pauses:
            names = registry.names(pause.processor)
            rows = Task.objects.using(store.database()).filter(
                pk__in=batch, processor_class__in=names
            )
            rows = rows.filter(queue_name=pause.queue_name) if pause.queue_name else rows
            held[pause] += rows.count()
        yield batch


def pauses_that_hold() -> list[PauseState]:
    """Return the pauses of processors that are not ending."""
    return [each for each in overview.pauses(1) if not each.ending]


def tell_held(command: BaseCommand, held: Counter[PauseState]) -> None:
    """Say how many tasks wait for the end of each pause, and how to end it."""
    for pause, count in held.items():
        if count:
            wait = "waits" if count == 1 else "wait"
            told = f"{count:,} of them {wait} for the end of a pause: {pause.way_out}"
            command.stderr.write(plain(told))
