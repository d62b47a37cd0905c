"""Fixes the text of a log record, which is formatted later, in another thread.

The objects among its arguments may change meanwhile, so they are turned into text at once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import date, timedelta
from numbers import Number
from uuid import UUID

_PLAIN = (str, int, float, Number, bytes, type(None), date, timedelta, UUID, type)
"""Types whose values read the same whenever they are formatted."""


def fixed(record: logging.LogRecord) -> logging.LogRecord:
    """Return a record whose text does not change any more, though it is formatted later."""
    arguments = record.args
    if isinstance(arguments, Mapping):
        record.args = {name: _as_it_is(value) for name, value in arguments.items()}
    elif arguments:
        record.args = tuple(map(_as_it_is, arguments))
    if not isinstance(record.msg, str):
        record.msg = _as_it_is(record.msg)
    return record


def _as_it_is(value: object) -> object:
    if isinstance(value, _PLAIN):
        return value
    try:
        return _Said(str(value), repr(value))
    except Exception:  # noqa: BLE001  logging itself tells of it, when it meets it
        return value


class _Said:
    """The texts that an argument had when it was logged."""

    def __init__(self, text: str, representation: str) -> None:
        self._text = text
        self._representation = representation

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return self._representation
