"""What becomes of a run: the same for the row, for signals and for ``ATOMIC``."""

from partisan_async.claim import Attempt, Claim
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.policy import RETURNED, Failed, Failure, Finished, PostponeAsked, Unrecognised
from partisan_async.settings import QueueSettings
from partisan_async.verdict import Verdicts
from tests.testapp.partisan_tasks import MisconfiguredPostpone, Tell


def claim_of(name):
    return Claim(7, 1, "default", name, "{}", 10, 0, 0, 0, False, 0, 0, 0.0)


def test_what_cannot_be_decided_ends_in_error_and_is_logged(caplog):
    """A config that cannot be used would have the row held for ever."""
    claim = claim_of(MisconfiguredPostpone.__name__)

    settlement = Verdicts(QueueSettings()).settlement(claim, PostponeAsked(0), None)

    assert isinstance(settlement.decision, Failed)
    assert settlement.decision.failure.exception_class == "builtins.TypeError"
    assert [record.event for record in caplog.records] == ["undecided"]


def test_a_row_of_a_processor_that_stores_its_result_is_kept():
    """Whoever waits for it is told."""
    attempt = Attempt(0.5, "host/1")

    settlement = Verdicts(QueueSettings()).settlement(claim_of(Tell.__name__), RETURNED, attempt)

    assert settlement == (claim_of("Tell"), Finished(), attempt, True, None)


def test_rules_of_processors_that_nobody_knows_are_not_kept():
    """Rows may name any number of them."""
    verdicts = Verdicts(QueueSettings())

    for number in range(3):
        name = f"Unknown{number}"
        unknown = Unrecognised(Failure.of(ProcessorClassNotFound(name)))
        verdicts.settlement(claim_of(name), unknown, None)

    assert not verdicts._rules
