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
from partisan_async.testing.bench import Bench, Ran
from partisan_async.testing.calls import call_of
from partisan_async.testing.endless import Growth

if TYPE_CHECKING:
    from partisan_async.testing.calls import Target

MOST_MORE = 5_000
"""Default maximum number of runs that follow from other runs, at one moment."""


def run_pending(
    *,
    queue_name: str | None = None,
    until: datetime.datetime | None = None,
    errors: Literal["raise", "keep"] = "raise",
    most_more: int = MOST_MORE,
) -> list[Ran]:
    """Run all tasks that are due, in this process and transaction, and return the runs.

    Tasks that these enqueue, retry or postpone run too if they are due. As by a supervisor,
    policies apply, rows are written and lines are logged. What a task passes to ``on_commit()`` is
    called when its own transaction would commit, also in a test's transaction.

    Due times, pauses and the rates of limits count by ``timezone.now()``, so ``time_machine`` and
    ``freezegun`` move them. A task that was due when it was enqueued is so whatever the clock says.

    :param queue_name: only this queue; ``None``: every queue.
    :param until: also run tasks that are due by this time, in the order of their times; pauses
        count from there. No clock is changed: tasks that ask for the time get the real one.
    :param errors: ``"raise"``: raise the errors of tasks; ``"keep"``: only keep them on the rows.
    :param most_more: maximum number of runs that follow from other runs: runs of tasks that these
        enqueue, and repeated runs; with ``until``, at each moment. More count as endless work.
    :raises ExceptionGroup: at the end, if tasks ended in ``error``: the errors that they raised,
        without errors after which a task is retried.
    :raises ValueError: a parameter has a wrong value.
    :raises RuntimeError: more runs follow, as when a task enqueues itself.
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
        while claims := bench.claim_next(queue_name, moment):
            for claim in claims:
                ran.append(bench.run(claim, moment))
                if growth.is_too_much(claim, moment):
                    bench.leave()
                    raise RuntimeError(growth.message(ran[-1].task))
        if until is None or (moment := bench.advance(queue_name, until)) is None:
            break
    bench.leave()
    if errors == "raise":
        bench.errors.raise_all()
    return ran


arun_pending = sync_to_async(run_pending)


def perform(
    target: Target, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> Ran:
    """Run one call once, in this process and transaction, whatever else waits, and leave no row.

    An error of the task is not raised: ``decision`` says what would become of the task.

    :param target: a processor class, or one of Django's own tasks.
    """
    bench = Bench()
    call = call_of(target, args, kwargs or {}).beside_twins()
    with transaction.atomic(using=bench.alias):  # so that no supervisor can claim it first
        task = enqueue(call)
        (claim,) = bench.claim_only(task)
    try:
        return bench.run(claim, None, tells=False)
    finally:
        Task.objects.using(bench.alias).filter(pk=task.pk).delete()
        bench.leave()


aperform = sync_to_async(perform)
