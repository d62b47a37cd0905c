"""A stored call: the JSON of a row, before its values get types."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from django.db import Error

from partisan_async.exceptions import TaskTimeout

NOT_OF_THE_VALUE: tuple[type[Exception], ...] = (TaskTimeout, Error, MemoryError)
"""What may be raised while a value is read, and says nothing about it.

The project's code is called for that, and may be interrupted, or ask the database.
"""

Place = tuple[str, int | str]
"""Where a value is in a stored call: ``("args", 0)`` or ``("kwargs", "order")``."""


class Stored(NamedTuple):
    """A call as a row has it: plain JSON values."""

    args: list[Any]
    kwargs: dict[str, Any]

    @classmethod
    def of(cls, arguments: object) -> Stored | None:
        """Return the call in a row's ``arguments``; ``None`` if they are not a call."""
        if not isinstance(arguments, Mapping):
            return None
        args, kwargs = arguments.get("args"), arguments.get("kwargs")
        if isinstance(args, list) and isinstance(kwargs, dict):
            return cls(args, kwargs)
        return None

    def places(self) -> list[Place]:
        """Return the places of all values."""
        by_position = [("args", position) for position in range(len(self.args))]
        return [*by_position, *(("kwargs", name) for name in self.kwargs)]

    def at(self, place: Place) -> Any:
        """Return the value at a place."""
        kind, where = place
        return self.args[int(where)] if kind == "args" else self.kwargs[str(where)]


def as_given_back(text: str) -> Any:
    """Return this JSON as it is read back from a ``jsonb`` column.

    PostgreSQL turns 1e+16 into 10000000000000000, which is read as an int.
    """
    return json.loads(text, parse_float=_parse_number) if "e+" in text else json.loads(text)


def _parse_number(text: str) -> float | int:
    return int(Decimal(text)) if "e+" in text else float(text)
