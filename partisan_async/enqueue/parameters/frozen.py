"""Finds the real types behind the fake ``datetime`` and ``date`` of ``freezegun``.

While a test stops the clock, lazy annotations resolve to the fakes, and ``timezone.now()`` returns
them. Parameters refuse subclasses, but take these: else no such test could enqueue a time.
"""

from __future__ import annotations

import datetime
import sys
from typing import Any

_REAL = {"FakeDatetime": "datetime", "FakeDate": "date"}


def real_types() -> dict[Any, Any]:
    """Return the real type of each fake; nothing if ``freezegun`` is not in use."""
    api = sys.modules.get("freezegun.api")
    if api is None:
        return {}
    return {getattr(api, fake): getattr(api, f"real_{real}") for fake, real in _REAL.items()}


def real_type(kind: type) -> type:
    """Return the real type of a fake; any other type as it is."""
    if kind.__module__ != "freezegun.api":
        return kind
    real: type = real_types().get(kind, kind)
    return real


def thawed(value: datetime.date) -> datetime.date:
    """Return the real value of a fake."""
    real: Any = real_type(type(value))
    thawed: datetime.date = real.fromisoformat(value.isoformat())
    return thawed
