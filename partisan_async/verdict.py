"""Asks ``policy`` what becomes of a claim after its run, by the rules of its processor and queue.

The supervisor writes the decision on the row. The worker decides the same for the signals that it
sends, and writes the end itself where the run is ``ATOMIC``.
"""

from __future__ import annotations

from contextlib import suppress

from partisan_async import logs, registry
from partisan_async.claim import Attempt, Call, Claim, Settlement
from partisan_async.declared import on_error_of, rules_of
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.policy import Decision, Failed, Failure, Finished, Outcome, Rules, decide
from partisan_async.settings import QueueSettings


class Verdicts:
    """The decisions of one queue; looks up the rules of each processor once.

    :param settings: the queue's.
    """

    def __init__(self, settings: QueueSettings) -> None:
        self._settings = settings
        self._rules: dict[str, Rules] = {}
        self._calls: dict[str, Call | None] = {}

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
        if isinstance(decision, Finished):
            return Settlement(claim, decision, attempt, stores_result)
        # Of any other decision: the task fails after all where its pause cannot be stored.
        return Settlement(claim, decision, attempt, stores_result, self._call_on_error(claim))

    def _call_on_error(self, claim: Claim) -> Call | None:
        name = claim.processor_class
        with suppress(KeyError):
            return self._calls[name]
        try:
            processor_class = registry.get(name)
        except Exception:  # noqa: BLE001  it is not known here, or the rules' look-up has told more
            return None
        try:
            on_error = on_error_of(processor_class)
            call = None if on_error is None else on_error._call_on_error()  # noqa: SLF001
            self._calls[name] = call
        except Exception as error:  # noqa: BLE001  whatever it is, the row has to end
            logs.outcomes.no_on_error(claim, error)
        return self._calls.get(name)

    def _look_up(self, name: str) -> Rules:
        rules = rules_of(name, self._settings)
        # Not cached for unknown processors: rows may name any number of them.
        with suppress(ProcessorClassNotFound):
            registry.get(name)
            self._rules[name] = rules
        return rules
