"""What the death of a worker process means for the runs that had started in it. Pure rules."""

from __future__ import annotations

from collections.abc import Sequence

from partisan_async.policy import Died, Outcome, Overran
from partisan_async.supervisor.workers.load import Run


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
