"""Ends tasks: has their outcomes decided, passes the decisions to the settler, and reports them.

To report is to count, to log, and to send the signals that no worker sends. An error in that never
keeps an outcome from being written.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from partisan_async import logs
from partisan_async.claim import Attempt, Claim, Settlement
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.policy import Died, Failure, GivenBack, Outcome, Overran, PutUnder, Unrecognised
from partisan_async.settings import QueueSettings
from partisan_async.supervisor.losses import Losses
from partisan_async.supervisor.report.counts import Counts
from partisan_async.supervisor.settler import Settler
from partisan_async.verdict import Verdicts

_UNSEEN = (Died, Overran, Unrecognised)
"""The outcomes for which no worker sends signals."""


class Endings:
    """The ends of one supervisor's tasks."""

    def __init__(self, settings: QueueSettings, settler: Settler, counts: Counts) -> None:
        self.losses = Losses()
        self.cuts_off = False
        """Whether the supervisor's own end is what interrupts runs from now on."""
        self._verdicts = Verdicts(settings)
        self._settler = settler
        self._counts = counts
        self._disowned: set[Claim] = set()

    def end(self, claim: Claim, outcome: Outcome, attempt: Attempt | None) -> None:
        """Settle a task by its outcome; ``attempt``: ``None`` if the run never started."""
        settlement = self._verdicts.settlement(claim, outcome, attempt)
        decision = settlement.decision
        self._settler.add(settlement)
        try:
            if not isinstance(decision, PutUnder):
                self._counts.count(claim, decision, attempt)
            if isinstance(outcome, _UNSEEN):
                self.losses.tell(claim, decision)
            logs.tasks.settled(claim, decision, None if attempt is None else attempt[0])
        except Exception as error:  # noqa: BLE001  a log handler of the site's, for one
            with suppress(Exception):
                logs.outcomes.untold(claim, error)

    def end_unknown(self, claims: Iterable[Claim]) -> None:
        """Settle tasks whose processor is not registered here: nothing ran."""
        for claim in claims:
            error = ProcessorClassNotFound(claim.processor_class)
            self.end(claim, Unrecognised(Failure.of(error)), None)

    def give_back(self, claims: Iterable[Claim], attempt: Attempt | None = None) -> None:
        """Return tasks to the queue as they were.

        :param attempt: the run that was interrupted, if it had started.
        """
        decision = GivenBack(cut_off=attempt is not None and self.cuts_off)
        for claim in claims:
            self._settler.add(Settlement(claim, decision, attempt))
            # Do not log a task that is not ours any more: it would look as if it ran again.
            if claim not in self._disowned:
                logs.tasks.settled(claim, decision, None if attempt is None else attempt[0])

    def disown(self, running: Iterable[Claim], known: Iterable[Claim]) -> None:
        """Do not log these when they are given back: another supervisor has them by now.

        :param known: all claims that workers have; disowned ones that are over are forgotten.
        """
        self._disowned = {*running, *self._disowned.intersection(known)}
