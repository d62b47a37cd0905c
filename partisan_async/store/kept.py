"""What a row keeps of its runs: the newest workers and failures."""

from __future__ import annotations

import json

from partisan_async.policy import Failure

KEPT_PER_ROW = 10
"""Maximum number of errors, and of worker ids, that stay on a row; the oldest go first."""


def kept(column: str) -> str:
    """Return the SQL of this column's list with room for one more entry."""
    # A column set by hand to something else than a list must not make the whole batch fail.
    return (
        f"CASE WHEN jsonb_typeof({column}) <> 'array' THEN '[]'::jsonb"
        f" WHEN jsonb_array_length({column}) < {KEPT_PER_ROW} THEN {column} ELSE {column} - 0 END"
    )


_KEPT = ("exception_class", "message", "traceback")


def encoded(failure: Failure, **more: bool | str | float) -> str:
    """Return the JSON that a row keeps of a failure.

    :param more: further fields of the JSON.
    """
    return json.dumps({name: getattr(failure, name) for name in _KEPT} | more)
