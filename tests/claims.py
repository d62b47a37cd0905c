"""Claims for tests that need no row."""

from __future__ import annotations

from typing import Any

from partisan_async.claim import Claim

_CLAIM = Claim(1, 1, "default", "Nothing", "{}", 10, 0, 0, 0, False, 0, 0, 0.0)


def claim(**changes: Any) -> Claim:
    """Return a claim of a task that was never run, with these fields changed."""
    return _CLAIM._replace(**changes)
