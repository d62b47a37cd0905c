"""Runs tasks in the test's own process and transaction, as a supervisor would."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from asgiref.sync import sync_to_async
from django.db import transaction

from partisan_async import registry
from partisan_async.enqueue.insert import enqueue
from partisan_async.enqueue.turn import checked_time
from partisan_async.models import Task
from partisan_async.testing.calls import call_of

if TYPE_CHECKING:
    from partisan_async.testing.calls import Target
from partisan_async.testing.bench import Bench, Ran
from partisan_async.testing.endless import Growth

MOST_MORE = 5_000
"""So many runs may come of others, at one moment."""


def run_pending(
    *,
    queue_name: str | None = None,
    until: datetime.datetime | None = None,
    errors: Literal["raise", "keep"] = "raise",
    most_more: int = MOST_MORE,
) -> list[Ran]:
    """Run all tasks that are due, in this process and transaction, and return what ran.

    Tasks that these enqueue, retry or postpone run too, as far as they are due by then. Policies
    are applied, rows written, and lines logged, as by a supervisor. What a task registers with
    ``on_commit()`` is called where it would be, also in a test's transaction.

    What is due, and from when pauses count, goes by ``timezone.now()``, so that ``time_machine``
    and ``freezegun`` move it. What was due when it was enqueued runs whatever the clock says.

    :param queue_name: one queue alone; ``None``: every queue.
    :param until: run what would be due by then, too, one after the other in the order of its time;
        pauses count from there. No clock is changed: tasks that ask for the time get the real one.
    :param errors: ``"keep"``: those of tasks are on their rows, and do not rise.
    :param most_more: so many runs may come of others: of tasks that these enqueue, and of those
        that run again; with ``until``, at each moment. More are taken for work without an end.
    :raises ExceptionGroup: at the end, where tasks ended in ``error``: what these raised. A try
        that is to run again is none of it.
    :raises ValueError: a parameter cannot be.
    :raises RuntimeError: there is no end: a task enqueues itself, or postpones itself by nothing.
    """
    until = checked_time("until", until)
    if errors not in ("raise", "keep"):
        raise ValueError(f'errors={errors!r}: pass "raise" or "keep".')
    if type(most_more) is not int or most_more < 0:
        raise ValueError(f"most_more={most_more!r}: pass a number of runs.")
    registry.autodiscover()
    bench = Bench()
    growth = Growth(bench.newest(), most_more)
    ran: list[Ran] = []
    moment = None
    while True:
        while claims := bench.claim_next(queue_name):
            for claim in claims:
                ran.append(bench.run(claim, moment))
                if growth.is_too_much(claim, moment):
                    bench.leave()
                    raise RuntimeError(growth.told(ran[-1].task))
        if until is None or (moment := bench.advance(queue_name, until)) is None:
            break
    bench.leave()
    if errors == "raise":
        bench.errors.rise()
    return ran


arun_pending = sync_to_async(run_pending)


def perform(
    target: Target, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> Ran:
    """Run one call once, in this process and transaction, whatever else waits, and leave no row.

    An error does not rise: ``decision`` says what would become of the task.

    :param target: a processor class, or one of Django's own tasks.
    """
    bench = Bench()
    call = call_of(target, args, kwargs or {})._replace(digest=None)
    with transaction.atomic(using=bench.alias):  # or a supervisor beside it could be faster
        task = enqueue(call)
        (claim,) = bench.claim_only(task)
    try:
        return bench.run(claim, None, tells=False)
    finally:
        Task.objects.using(bench.alias).filter(pk=task.pk).delete()
        bench.leave()


aperform = sync_to_async(perform)
