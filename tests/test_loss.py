"""What becomes of the runs whose worker process is gone: the rules of ``loss``."""

import pytest

from partisan_async.policy import Died, Overran
from partisan_async.supervisor.workers.load import Run
from partisan_async.supervisor.workers.loss import outcome_of
from tests.claims import claim

ONE, OTHER = (Run(claim(id=number), False, 1.0, 0.5) for number in (1, 2))


@pytest.mark.parametrize(
    ("started", "overran", "innocent", "outcome"),
    [
        ([ONE], None, False, Died("why", True)),
        ([ONE, OTHER], None, False, Died("why", False)),
        ([ONE], None, True, None),
        ([ONE, OTHER], None, True, None),
        ([ONE], ONE, True, Overran(0.5)),
        ([ONE], ONE, False, Overran(0.5)),
        ([ONE, OTHER], ONE, True, Died("why", False)),
        ([ONE, OTHER], OTHER, True, Died("why", False)),
        ([ONE], OTHER, True, None),  # that one ended in the last moment
        ([ONE], OTHER, False, Died("why", True)),
    ],
)
def test_who_is_blamed(started, overran, innocent, outcome):
    """In company nobody is: one of them may have kept the other from running."""
    told = outcome_of(ONE, started, overran=overran, innocent=innocent, reason="why")

    assert told == outcome
