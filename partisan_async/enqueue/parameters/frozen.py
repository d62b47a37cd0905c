"""The stand-ins that ``freezegun`` has for ``datetime`` and ``date`` while a test stops the clock.

A lazy annotation that is resolved meanwhile names them, and ``timezone.now()`` returns them. They
are subclasses; those are refused, and these are not, or no frozen test could enqueue a time.
"""

from __future__ import annotations

import datetime
import sys
from typing import Any

_REAL = {"FakeDatetime": "datetime", "FakeDate": "date"}


def real_types() -> dict[Any, Any]:
    """Return what each stand-in stands for; nothing where ``freezegun`` is not in use."""
    api = sys.modules.get("freezegun.api")
    if api is None:
        return {}
    return {getattr(api, fake): getattr(api, f"real_{real}") for fake, real in _REAL.items()}


def real_type(kind: type) -> type:
    """Return the type of a value; of a stand-in, what it stands for."""
    if kind.__module__ != "freezegun.api":
        return kind
    real: type = real_types().get(kind, kind)
    return real


def thawed(value: datetime.date) -> datetime.date:
    """Return the real value that a stand-in has."""
    real: Any = real_type(type(value))
    thawed: datetime.date = real.fromisoformat(value.isoformat())
    return thawed
