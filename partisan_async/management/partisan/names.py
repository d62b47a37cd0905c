"""The known names of queues and processors, and which of the given names are unknown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from difflib import get_close_matches

from partisan_async import naming, registry, store
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.models import Schedule, Tally
from partisan_async.operate import known, overview
from partisan_async.steering.pruning import ended_queues

NAMED = 10
"""Maximum number of known names in a message."""


def unknown(of_queues: list[str], of_processors: list[str]) -> Iterator[str]:
    """Yield a message for each unknown name, with similar ones."""
    # A queue with only ended tasks is known, too: they can be pruned or retried.
    for what, names, all_known in (
        ("a queue", of_queues, known.queues() | set(ended_queues())),
        ("a processor", of_processors, _processors()),
    ):
        for name in names:
            if name not in all_known and not (names is of_processors and _is_registered(name)):
                yield f"Nobody knows {what} {name!r}; {others(name, all_known)}"


def others(name: str, known: set[str]) -> str:
    """Return which names there are in place of an unknown one: similar ones, or the first."""
    if similar := get_close_matches(name, known, NAMED):
        return f"similar are {', '.join(map(repr, similar))}"
    first = sorted(known)[:NAMED]
    more = f" and {len(known) - NAMED:,} more" if len(known) > NAMED else ""
    return f"known are {', '.join(map(repr, first)) or 'none'}{more}"


def _processors() -> set[str]:
    """Return the processors that this code knows, that ran lately, or are paused or scheduled."""
    registry.autodiscover()
    names = set(map(naming.name_of, registry.processors()))
    names |= {each.processor for each in overview.pauses(1)}
    alias = store.database()
    tallies, schedules = Tally.objects.using(alias), Schedule.objects.using(alias)
    names |= set(tallies.values_list("processor_class", flat=True).distinct())
    return names | {each.processor_name for each in schedules.only("processor_class", "processor")}


def _is_registered(name: str) -> bool:
    with suppress(ProcessorClassNotFound):
        return bool(registry.get(name))
    return False
