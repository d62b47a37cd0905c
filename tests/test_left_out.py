"""What a row tells of a settle that left it out."""

import uuid

import pytest

from partisan_async.claim import Claim
from partisan_async.supervisor.left_out import Why, judge

ME, OTHER = uuid.uuid4(), uuid.uuid4()
CLAIM = Claim(1, 5, "default", "Nothing", "", 0, 0, 0, 0, False, 0, 0, 0.0)


@pytest.mark.parametrize(
    ("row", "may_be_gone", "expected"),
    [
        ((5, ME), False, Why.LOCKED),
        ((5, None), False, Why.WRITTEN),
        ((6, ME), False, Why.WRITTEN),
        ((7, ME), False, Why.FENCED),
        ((6, OTHER), False, Why.FENCED),
        ((5, OTHER), False, Why.FENCED),
        ((6, None), False, Why.FENCED),
        (None, True, Why.WRITTEN),
        (None, False, Why.FENCED),
        ((6, OTHER), True, Why.FENCED),
    ],
)
def test_a_row_tells_why_it_was_left_out(row, may_be_gone, expected):
    """An answer may be lost after the statement took effect, and the fence holds all the same."""
    assert judge(CLAIM, row, ME, may_be_gone=may_be_gone) is expected
