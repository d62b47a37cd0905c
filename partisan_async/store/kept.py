"""What a row keeps of its runs: the newest workers and failures."""

from __future__ import annotations

import json

from partisan_async.policy import Failure

KEPT_PER_ROW = 10
"""Maximum number of errors, and of worker ids, that stay on a row: the newest."""


def kept(column: str) -> str:
    """Return the SQL of such a column with room for one more."""
    # A row that was changed by hand must not keep its batch from being settled.
    return (
        f"CASE WHEN jsonb_typeof({column}) <> 'array' THEN '[]'::jsonb"
        f" WHEN jsonb_array_length({column}) < {KEPT_PER_ROW} THEN {column} ELSE {column} - 0 END"
    )


_KEPT = ("exception_class", "message", "traceback")


def encoded(failure: Failure, **more: bool | str | float) -> str:
    """Return what a row keeps of a failure, as JSON, with more beside it."""
    return json.dumps({name: getattr(failure, name) for name in _KEPT} | more)
