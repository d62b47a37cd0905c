"""What the death of a worker process means for the runs in it, as pure rules; and who is told."""

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
    """Return how a run ended; ``None``: it was interrupted through no doing of its own.

    :param started: all runs that had started in the process, this one too.
    :param overran: the one that did not heed its time limit, if the process was killed for that.
    :param innocent: the supervisor ended the process.
    :param reason: why it died, as a sentence.
    """
    if innocent and overran not in started:
        return None
    alone = len(started) == 1
    if overran is run and alone and run.limit is not None:
        return Overran(run.limit)
    # Beside others it proves nothing: one of them may have kept this one from running.
    return Died(reason, alone)


def tell_of_loss(
    load: Load,
    listener: Listener,
    worker_id: str,
    *,
    overran: Run | None,
    innocent: bool,
    reason: str,
) -> None:
    """Tell the listener of all runs in a process that is gone; parameters as for ``outcome_of``."""
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
