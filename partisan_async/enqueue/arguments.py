"""What a task's arguments may be: plain JSON, checked when the task is enqueued."""

from __future__ import annotations

import datetime
import decimal
import hashlib
import json
import math
import os
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from django.db.models import Model
from django.utils.functional import Promise

from partisan_async.exceptions import ArgumentsTooLarge
from partisan_async.settings import SMALL_ARGUMENTS_BYTES, most_arguments_bytes

TOO_DEEP = (
    "The arguments are nested too deeply, or contain themselves; pass flatter data, or the key of a"
    " row that holds them."
)


def encode(args: tuple[Any, ...], kwargs: Mapping[str, Any], **more: str) -> str:
    """Return the arguments as canonical JSON: sorted keys, tuples as lists.

    :param more: further texts to store beside ``args`` and ``kwargs``.
    :raises TypeError: a value is not a str, int, float, bool, None, list, tuple or dict, or a dict
        key is not a str; the message says where, and what to pass instead.
    :raises ValueError: a value cannot be stored as ``jsonb``: NaN or an infinity, a NUL character,
        half a surrogate pair, or a nesting too deep.
    """
    plain = None if more else _encode_plain(args, kwargs)
    if plain is not None:
        return plain
    try:
        for position, value in enumerate(args):
            require_json(value, f"args[{position}]")
        for name, value in kwargs.items():
            require_text(name, f"the name of kwargs[{name!r}]")
            require_json(value, f"kwargs[{name!r}]")
        return canonical({"args": args, "kwargs": kwargs, **more})
    except RecursionError:
        raise ValueError(TOO_DEEP) from None


def encode_result(value: Any) -> str:
    """Return what ``run()`` returned as JSON; errors as for ``encode``."""
    try:
        require_json(value, "what run() returned")
        return canonical(value)
    except RecursionError:
        raise ValueError("What run() returned is nested too deeply, or contains itself.") from None


def require_size(encoded: str, queue_name: str) -> None:
    """Raise ``ArgumentsTooLarge`` if the arguments exceed the queue's ``MAX_ARGUMENTS_BYTES``."""
    size = len(encoded)  # in ASCII
    if size > SMALL_ARGUMENTS_BYTES and size > (most := most_arguments_bytes(queue_name)):
        raise ArgumentsTooLarge(
            f"The arguments are {size:,} bytes of JSON, and MAX_ARGUMENTS_BYTES of queue"
            f" {queue_name!r} is {most:,}. Write them to a file or to a table of yours and pass the"
            " key, or raise the setting."
        )


quoted = json.JSONEncoder().encode
canonical = json.JSONEncoder(sort_keys=True, allow_nan=False, separators=(",", ":")).encode


def digest(processor_name: str, encoded: str, subject: str | None = None) -> bytes:
    """Return the hash of a call: the same for the same processor, args, kwargs and subject."""
    return digests(processor_name, [of_subject(encoded, subject)])[0]


def of_subject(encoded: str, subject: str | None) -> str:
    """Return what is hashed of a call: of one that is nobody's, its arguments as ever."""
    # Encoded ones are one line: so this is no other call's.
    return encoded if subject is None else f"{encoded}\n{subject}"


def digests(processor_name: str, encoded: Iterable[str]) -> list[bytes]:
    """Return the digest of each of these calls of one processor."""
    # Copying a hash is cheaper than starting a new one.
    begun = hashlib.sha256(f"{processor_name}\n".encode())
    digests = []
    for each in encoded:
        hashed = begun.copy()
        hashed.update(each.encode())
        digests.append(hashed.digest())
    return digests


def _encode_plain(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
    """Return what ``canonical`` would, in a third of the time; ``None`` if a value is not plain.

    Most calls have a few plain values, which take less time than one call of JSONEncoder.
    """
    values = []
    for value in args:
        if (plain := _plain(value)) is None:
            return None
        values.append(plain)
    if not kwargs:
        return f'{{"args":[{",".join(values)}],"kwargs":{{}}}}'
    pairs = []
    for name in sorted(kwargs):
        key, plain = _plain(name), _plain(kwargs[name])
        if key is None or plain is None:
            return None
        pairs.append(f"{key}:{plain}")
    return f'{{"args":[{",".join(values)}],"kwargs":{{{",".join(pairs)}}}}}'


def _plain(value: Any) -> str | None:
    """Return the JSON of a value that can surely be stored; else ``None``."""
    kind = type(value)
    if kind is str:
        return quoted(value) if value.isascii() and "\x00" not in value else None
    if kind is int:
        return str(value) if -(2**63) <= value < 2**63 else None
    if kind is bool:
        return "true" if value else "false"
    return "null" if value is None else None


def require_json(value: Any, place: str) -> None:
    match value:
        case str():
            require_text(value, place)
        case None | bool():
            pass
        case int():
            _require_digits(value, place)
        case float():
            if not math.isfinite(value):
                raise ValueError(
                    f"{place} is {value!r}, which JSON cannot hold; pass None instead."
                )
        case list() | tuple():
            for position, item in enumerate(value):
                require_json(item, f"{place}[{position}]")
        case dict():
            for key, item in value.items():
                if not isinstance(key, str):
                    raise TypeError(
                        f"{place} has the key {key!r} of type {type(key).__name__}; JSON would turn"
                        " it into a string behind your back, so pass str keys."
                    )
                require_text(key, f"a key of {place}")
                require_json(item, f"{place}[{key!r}]")
        case _:
            raise TypeError(
                f"{place} is of type {type(value).__name__}, which is not JSON; {_instead(value)}."
            )


def require_text(text: str, place: str) -> None:
    if "\x00" in text:
        raise ValueError(
            f"{place} contains a NUL character, which PostgreSQL cannot store; remove it, or pass"
            " base64 text."
        )
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{place} contains the lone surrogate {text[error.start]!r} at {error.start}, which"
                " PostgreSQL cannot store; decode the original bytes with errors='replace', or pass"
                " base64 text."
            ) from None


def _require_digits(number: int, place: str) -> None:
    if number.bit_length() > 13_000:  # Python and JSON parsers refuse 4,300 decimal digits
        raise ValueError(f"{place} is a whole number of over 3,900 digits; pass it as hex text.")


def _instead(value: Any) -> str:
    match value:
        case Model():
            return f"pass its primary key ({type(value).__name__}(…).pk) and load it in run()"
        case datetime.datetime() | datetime.date() | datetime.time():
            return "pass value.isoformat()"
        case datetime.timedelta():
            return "pass value.total_seconds()"
        case decimal.Decimal() | uuid.UUID() | Promise():
            return "pass str(value)"
        case os.PathLike():
            return "pass os.fspath(value)"
        case bytes() | bytearray() | memoryview():
            return "pass text: value.decode() or base64"
        case set() | frozenset():
            return "pass sorted(value)"
        case _:
            return (
                "pass str, int, float, bool, None, or lists and dicts of them, or the key of a row"
            )
