"""Asks ``policy`` what becomes of a claim after its run, by the rules of its processor and queue.

The supervisor writes the decision on the row. The worker decides the same for the signals that it
sends, and writes the end itself where the run is ``ATOMIC``.
"""

from __future__ import annotations

from contextlib import suppress

from partisan_async import logs, registry
from partisan_async.claim import Attempt, Claim, Settlement
from partisan_async.declared import rules_of
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.policy import Decision, Failed, Failure, Outcome, Rules, decide
from partisan_async.settings import QueueSettings


class Verdicts:
    """The decisions of one queue; looks up the rules of each processor once.

    :param settings: the queue's.
    """

    def __init__(self, settings: QueueSettings) -> None:
        self._settings = settings
        self._rules: dict[str, Rules] = {}

    def settlement(self, claim: Claim, outcome: Outcome, attempt: Attempt | None) -> Settlement:
        """Return what is to be written after a run that ended with this outcome.

        :param attempt: ``None`` if it never started.
        """
        decision: Decision
        stores_result = False
        try:
            rules = self._rules.get(claim.processor_class) or self._look_up(claim.processor_class)
            stores_result = rules.stores_result
            decision = decide(outcome, rules, claim)
        except Exception as error:  # noqa: BLE001
            # Such as a wrong config: the row must say so, or its claim would never end.
            logs.outcomes.undecided(claim, error)
            decision = Failed(Failure.of(error))
        return Settlement(claim, decision, attempt, stores_result)

    def _look_up(self, name: str) -> Rules:
        rules = rules_of(name, self._settings)
        # Not cached for unknown processors: rows may name any number of them.
        with suppress(ProcessorClassNotFound):
            registry.get(name)
            self._rules[name] = rules
        return rules
