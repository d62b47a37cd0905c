"""What a row tells of a settle that left it out."""

import uuid

import pytest

from partisan_async.claim import Claim
from partisan_async.supervisor.verdict import Verdict, judge

ME, OTHER = uuid.uuid4(), uuid.uuid4()
CLAIM = Claim(1, 5, "default", "Nothing", "", 0, 0, 0, 0, False, 0, 0, 0.0)


@pytest.mark.parametrize(
    ("row", "may_be_gone", "expected"),
    [
        ((5, ME), False, Verdict.LOCKED),
        ((5, None), False, Verdict.WRITTEN),
        ((6, ME), False, Verdict.WRITTEN),
        ((7, ME), False, Verdict.FENCED),
        ((6, OTHER), False, Verdict.FENCED),
        ((5, OTHER), False, Verdict.FENCED),
        ((6, None), False, Verdict.FENCED),
        (None, True, Verdict.WRITTEN),
        (None, False, Verdict.FENCED),
        ((6, OTHER), True, Verdict.FENCED),
    ],
)
def test_a_row_tells_why_it_was_left_out(row, may_be_gone, expected):
    """An answer may be lost after the statement took effect, and the fence holds all the same."""
    assert judge(CLAIM, row, ME, may_be_gone=may_be_gone) is expected
