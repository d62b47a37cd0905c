"""Deletes the rows of tasks that ended long ago."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import product

from django.db import transaction

from partisan_async import store
from partisan_async.enqueue.run import fetch
from partisan_async.models import ENDED
from partisan_async.steering import audit
from partisan_async.steering.which import refuse_subject


@dataclass(frozen=True)
class Pruned:
    """What became of old rows.

    :param kept: rows that the database refuses to delete, as when a row of the site refers to one.
    """

    deleted: int
    kept: dict[int, Exception]


def prune(
    older_than: timedelta,
    *,
    statuses: Sequence[str] = ENDED,
    queue_name: str | None = None,
    subject: str | None = None,
) -> Pruned:
    """Delete the rows of tasks that ended longer ago than this; return their number.

    A thousand rows are deleted at a time.

    :param statuses: delete tasks in these statuses: ``finished``, ``error`` or both.
    :param queue_name: delete tasks of this queue; ``None``: of all queues.
    :param subject: delete tasks of this subject; ``None``: whosever they are.
    :raises ValueError: there is another status among them.
    :raises TypeError, ValueError: nothing can have this subject.
    """
    refuse_subject(subject)
    if wrong := sorted(set(statuses).difference(ENDED)):
        raise ValueError(f"prune: no task in status {wrong[0]!r}; it is for {', '.join(ENDED)}.")
    deleted = 0
    kept: dict[int, Exception] = {}
    parts = prune_in_batches(older_than, statuses=statuses, queue_name=queue_name, subject=subject)
    for part in parts:
        deleted += part.deleted
        kept |= part.kept
    return Pruned(deleted, kept)


def prune_in_batches(
    older_than: timedelta,
    *,
    statuses: Sequence[str] = ENDED,
    queue_name: str | None = None,
    subject: str | None = None,
) -> Iterator[store.Pruned]:
    """As ``prune``, and yield what became of each thousand.

    A row that the database refuses to delete does not keep the others from being deleted.
    """
    names = ended_queues() if queue_name is None else [queue_name]
    for name, status in product(names, statuses):
        behind, more = None, True
        while more:
            pruning = store.Pruning(older_than, status, name, subject=subject, behind=behind)
            for statement in pruning:
                with pruning.refusals(), transaction.atomic(using=store.database()):
                    pruning.answer = fetch(*statement)
            pruned = pruning.pruned
            behind, more = pruned.last, pruned.more
            if pruned.deleted:
                of = "" if subject is None else " and one subject"
                told = f"{pruned.deleted:,} {status} of queue {name!r}{of}"
                audit.put_down("prune", [told], queue_name=name, count=pruned.deleted)
            if pruned.deleted or pruned.kept:
                yield pruned


def ended_queues() -> list[str]:
    """Return the names of the queues that have rows of ended tasks."""
    return [name for (name,) in fetch(*store.ended_queues())]
