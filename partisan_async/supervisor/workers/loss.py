"""Decides and reports what the death of a worker process means for the runs in it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from partisan_async.config.drawing import drawn
from partisan_async.policy import Died, Outcome, Overran
from partisan_async.supervisor.workers.listener import Listener
from partisan_async.supervisor.workers.load import Load, Run


def outcome_of(
    run: Run, started: Sequence[Run], *, overran: Run | None, innocent: bool, reason: str
) -> Outcome | None:
    """Return the outcome of a run; ``None``: it was interrupted through no fault of its task.

    :param started: all runs that had started in the process, including this one.
    :param overran: the run whose time limit made the supervisor kill the process, if any.
    :param innocent: the supervisor ended the process, so no run but ``overran`` is to blame.
    :param reason: why it died, as a sentence.
    """
    if innocent and overran not in started:
        return None
    ran_alone = len(started) == 1
    if overran is run and ran_alone and run.limit is not None:
        return Overran(run.limit)
    # If others ran beside it, nothing is proven: one of them may have blocked this one.
    return Died(reason, ran_alone)


def tell_of_loss(
    load: Load,
    listener: Listener,
    worker_id: str,
    *,
    overran: Run | None,
    innocent: bool,
    reason: str,
) -> None:
    """Report all runs of a dead process to the listener; parameters as for ``outcome_of``."""
    now = asyncio.get_running_loop().time()
    started, unstarted = load.give_up()
    for run in started:
        assert run.started_at is not None
        seconds = now - run.started_at
        outcome = outcome_of(run, started, overran=overran, innocent=innocent, reason=reason)
        if isinstance(outcome, Overran):
            outcome = replace(outcome, ran_seconds=seconds, drawn=drawn())
        if outcome is None:
            listener.on_interrupted(run.claim, seconds, worker_id)
        else:
            listener.on_ended(run.claim, outcome, seconds, worker_id)
    listener.on_returned([run.claim for run in unstarted])
