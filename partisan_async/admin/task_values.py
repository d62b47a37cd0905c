"""A task's arguments, result and errors as its page and the list show them."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from django.db.models import TextField
from django.db.models.expressions import Func
from django.db.models.functions import Cast, Left, Length

from partisan_async.admin.sight import HIDDEN
from partisan_async.admin.task_list import TOLD_CHARACTERS
from partisan_async.models import readable
from partisan_async.text import moments

SHOWN_CHARACTERS = 20_000
"""Maximum length of a task's arguments and of its result on its page."""


def without_frame(told: str) -> str:
    """Return the beginning of a call's JSON, without the keys that all calls share."""
    is_whole = len(told) < TOLD_CHARACTERS
    if told.startswith(_KEYWORDS):
        rest = told.removeprefix(_KEYWORDS)
        return rest.removesuffix("}}") if is_whole else rest
    if is_whole and told.startswith(_POSITIONAL) and told.endswith(_NO_KEYWORDS):
        return told.removeprefix(_POSITIONAL).removesuffix(_NO_KEYWORDS)
    return (told.removesuffix("}") if is_whole else told).removeprefix('{"args": ')


def told_error(error: Any, alias: str) -> dict[str, Any]:
    """Return an error with readable texts and a parsed time."""
    if not isinstance(error, dict):
        return {"message": readable.text(error)}
    told = {
        key: each if isinstance(each, str) else readable.text(each) for key, each in error.items()
    }
    with suppress(TypeError, ValueError, KeyError, OverflowError):
        return told | {"at": moments.read(error["at"], alias)}
    return told


def key(word: str) -> int | None:
    """Return a task's id from an address or a form; ``None``: the word is no id."""
    if not re.fullmatch(r"-?[0-9]{1,19}", word):
        return None
    return int(word) if readable.is_key(int(word)) else None


def without_text(error: dict[str, Any]) -> dict[str, Any]:
    """Return an error without its message and traceback."""
    shown = {key: error[key] for key in ("exception_class", "try", "at") if key in error}
    return shown | {"message": HIDDEN}


def pretty(column: str) -> Left:
    """Return the beginning of a JSON column, indented."""
    pretty = Func(column, function="jsonb_pretty", output_field=TextField())
    return Left(pretty, SHOWN_CHARACTERS)


def size(column: str) -> Length:
    """Return the length of a column as text."""
    return Length(Cast(column, TextField()))


_KEYWORDS = '{"args": [], "kwargs": {'

_POSITIONAL, _NO_KEYWORDS = '{"args": [', '], "kwargs": {}}'
