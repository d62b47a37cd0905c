"""Ends tasks: has it decided what becomes of each, hands that to the settler, and tells of it.

To tell is to count it, to send the signals that no worker sends, and to log it. None of that can
keep the outcome from being written.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from partisan_async import logs, registry
from partisan_async.claim import Attempt, Claim, Settlement
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.policy import (
    Decision,
    Died,
    Failed,
    Failure,
    GivenBack,
    Outcome,
    Overran,
    Rules,
    Unrecognised,
    decide,
)
from partisan_async.processor import rules_of
from partisan_async.settings import QueueSettings
from partisan_async.supervisor.losses import Losses
from partisan_async.supervisor.report.counts import Counts
from partisan_async.supervisor.settler import Settler

_UNSEEN = (Died, Overran, Unrecognised)
"""The outcomes that no worker tells."""


class Endings:
    """The ends of one supervisor's tasks."""

    def __init__(self, settings: QueueSettings, settler: Settler, counts: Counts) -> None:
        self.losses = Losses()
        self._settings = settings
        self._settler = settler
        self._counts = counts
        self._rules: dict[str, Rules] = {}
        self._disowned: set[Claim] = set()

    def end(self, claim: Claim, outcome: Outcome, attempt: Attempt | None) -> None:
        """Settle a task by its outcome; ``attempt``: ``None`` if it never started."""
        decision, stores_result = self._decide(claim, outcome)
        self._settler.add(Settlement(claim, decision, attempt, stores_result))
        try:
            self._counts.count(claim, decision, attempt)
            if isinstance(outcome, _UNSEEN):
                self.losses.tell(claim, decision)
            logs.tasks.settled(claim, decision, None if attempt is None else attempt[0])
        except Exception as error:  # noqa: BLE001  a log handler of the site's, for one
            with suppress(Exception):
                logs.outcomes.untold(claim, error)

    def give_back(self, claims: Iterable[Claim], attempt: Attempt | None = None) -> None:
        """Have tasks wait again as before; ``attempt``: the one that was cut short."""
        decision = GivenBack()
        for claim in claims:
            self._settler.add(Settlement(claim, decision, attempt))
            # Not of one that is not ours any more: it would look as if it ran again.
            if claim not in self._disowned:
                logs.tasks.settled(claim, decision, None if attempt is None else attempt[0])

    def disown(self, running: Iterable[Claim], known: Iterable[Claim]) -> None:
        """Tell nothing of these when they are given back: they are another's by now.

        :param known: all claims that are in the workers; others are over and forgotten.
        """
        self._disowned = {*running, *self._disowned.intersection(known)}

    def _decide(self, claim: Claim, outcome: Outcome) -> tuple[Decision, bool]:
        """Return what becomes of a task, and whether its row is kept for its result."""
        stores_result = False
        try:
            name = claim.processor_class
            rules = self._rules.get(name) or self._rules_of(name)
            stores_result = rules.stores_result
            return decide(outcome, rules, claim), stores_result
        except Exception as error:  # noqa: BLE001
            # A retry rule that raises, for one: the row must say so, or it stays in process.
            logs.outcomes.undecided(claim, error)
            return Failed(Failure.of(error)), stores_result

    def _rules_of(self, name: str) -> Rules:
        rules = rules_of(name, self._settings)
        # Rows may name processors without number that nobody knows.
        with suppress(ProcessorClassNotFound):
            registry.get(name)
            self._rules[name] = rules
        return rules
