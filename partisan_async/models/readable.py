"""Reads any value of the package's tables, also one written by hand or by a broken restore.

PostgreSQL's types hold more than Python's: infinite times, years before Christ, numbers of any
length. One value that Python cannot hold must not hide its row, nor the rows beside it. So a time
out of Python's range is read as a *stand-in*, the first or last time in range, and JSON that Python
cannot read as ``UNREADABLE``; pages show "?". Neither is written back: see ``always_read``.
"""

from __future__ import annotations

import json
import math
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from django.db import models
from django.utils import timezone

from partisan_async.text.printable import MARK

DEEPEST = 50
"""Maximum number of levels of JSON that is shown: printing a thousand would overflow the stack."""

# A day inside Python's range, so that each can be shown in every time zone. `delay()` accepts no
# time near them.
_EARLIEST, _LATEST = "0001-01-02 00:00:00+00", "9999-12-30 00:00:00+00"
_STAND_INS = (datetime.fromisoformat(_EARLIEST), datetime.fromisoformat(_LATEST))

AnyField = TypeVar("AnyField", bound="models.Field[Any, Any]")


class Unreadable(str):
    """The text that stands for JSON which cannot be read."""

    __slots__ = ()


UNREADABLE = Unreadable(MARK)


def always_read(column: AnyField) -> AnyField:
    """Return a field that reads any value of its column, and refuses to write back a stand-in.

    The methods are set on this one field, and its class stays Django's: expressions compare the
    classes of fields, and migrations write them down.
    """
    methods: dict[str, Any] = {
        "get_db_prep_save": partial(_to_save, column),
        "clone": partial(_clone, column),
    }
    if isinstance(column, models.JSONField):
        methods["from_db_value"] = partial(_json, column)
    else:
        methods["select_format"] = _select_moment
    vars(column).update(methods)
    return column


def optional_text(help_text: Any = "", **options: Any) -> models.CharField[str | None, str | None]:
    """Return a column of text that is NULL where there is none: "" would be stored with each row.

    NULL is in no partial index, and "" may be a value.
    """
    return models.CharField(
        **{"max_length": 255, "null": True, "blank": True, "help_text": help_text} | options
    )


def _select_moment(_: Any, sql: str, params: Any) -> tuple[str, Any]:
    """Have the server replace times out of Python's range by stand-ins."""
    return moment(sql), (*params, *params, *params)


def _json(column: Any, value: Any, expression: Any, connection: Any) -> Any:
    try:
        return type(column).from_db_value(column, value, expression, connection)
    except (ValueError, RecursionError):
        return UNREADABLE


def _to_save(column: Any, value: Any, connection: Any) -> Any:
    if isinstance(value, Unreadable) or (isinstance(value, datetime) and _stands_in(value)):
        raise ValueError(
            f"{column} was read as {str(value)!r}, which stands for what Python cannot hold, and to"
            " save it would overwrite that. Save the columns that you changed:"
            " save(update_fields=[…])."
        )
    return type(column).get_db_prep_save(column, value, connection)


def _clone(column: Any) -> Any:
    return always_read(type(column).clone(column))


def moment(sql: str) -> str:
    """Return the SQL of a time, or of its stand-in if it is out of Python's range."""
    # Not LEAST(GREATEST(…)): they ignore NULL.
    return (
        f"CASE WHEN {sql} < '{_EARLIEST}'::timestamptz THEN '{_EARLIEST}'::timestamptz"
        f" WHEN {sql} > '{_LATEST}'::timestamptz THEN '{_LATEST}'::timestamptz ELSE {sql} END"
    )


def _stands_in(value: datetime) -> bool:
    """Tell whether a time is a stand-in."""
    return aware(value) in _STAND_INS


def aware(value: datetime) -> datetime:
    """Return a time with its zone: without ``USE_TZ`` Django reads a column's times without one."""
    if timezone.is_aware(value):
        return value
    return timezone.make_aware(value, timezone.get_default_timezone())


def is_moment(value: datetime) -> bool:
    """Tell whether a time is the column's own, and not a stand-in."""
    return value.year > 1 and (value.year, value.month) < (9999, 12)


def seconds_since(sql: str) -> str:
    """Return the SQL of the seconds since a time; NaN if the time is infinite."""
    # Before PostgreSQL 17 subtracting 'infinity' is an error.
    return (
        f"CASE WHEN isfinite({sql}) THEN extract(epoch FROM statement_timestamp() - {sql})::float8"
        f" WHEN {sql} IS NOT NULL THEN 'NaN'::float8 END"
    )


def load(text: str | None) -> Any:
    """Return decoded JSON; ``UNREADABLE`` if it is too deep, or has a number that is too long."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return UNREADABLE


def is_number(value: Any) -> bool:
    """Tell whether a JSON value is a number to calculate with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


def is_key(value: Any) -> bool:
    """Tell whether a JSON value can be the id of a row."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return is_number and -(2**63) <= value < 2**63


def text(value: Any) -> str:
    """Return the text of a JSON value; "?" if it is too deep."""
    return MARK if is_deep(value) else str(value)


def is_deep(value: Any, left: int = DEEPEST) -> bool:
    """Tell whether a JSON value has more levels than can be shown."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return False
    return left == 0 or any(is_deep(each, left - 1) for each in value)


def as_json(value: Any) -> Any:
    """Return plain data that JSON can hold: with ``None`` for NaN and infinity."""
    match value:
        case dict():
            return {key: as_json(each) for key, each in value.items()}
        case list():
            return [as_json(each) for each in value]
        case float() if not math.isfinite(value):
            return None
    return value


def mark(row: models.Model) -> None:
    """Replace the unreadable values of a row by "?". Only for rows that are shown, never saved."""
    deferred = row.get_deferred_fields()
    for field in row._meta.concrete_fields:  # noqa: SLF001  documented API in spite of its name
        if field.attname in deferred:
            continue
        value = getattr(row, field.attname)
        is_odd = isinstance(value, datetime) and _stands_in(value)
        if is_odd or (isinstance(field, models.JSONField) and is_deep(value)):
            setattr(row, field.attname, UNREADABLE)
