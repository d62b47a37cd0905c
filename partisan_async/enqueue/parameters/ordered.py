"""Puts what is stored of sets into one order, whatever the order in which the process has them.

Text hashes differ from process to process, and many values that a set holds cannot be compared.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from partisan_async.enqueue.arguments import canonical


def ordered(value: Any, plain: Any) -> Any:
    """Return plain values in which each list that was made of a set is in order.

    :param plain: made of ``value``, item by item.
    """
    match value:
        case set() | frozenset():
            return _sorted([ordered(*each) for each in zip(value, plain, strict=True)])
        case list() | tuple():
            return [ordered(*each) for each in zip(value, plain, strict=True)]
        case dict() if len(value) == len(plain):  # else two keys became one, and it is refused
            pairs = zip(value.values(), plain.items(), strict=True)
            return {key: ordered(each, made) for each, (key, made) in pairs}
        case _ if dataclasses.is_dataclass(value):
            return {name: ordered(getattr(value, name), made) for name, made in plain.items()}
    return plain


def _sorted(plain: list[Any]) -> list[Any]:
    """Return them as ``sorted()`` does where it can by text or number; else by their JSON."""
    kinds = set(map(type, plain))
    if kinds <= {str} or kinds <= {int, float}:
        return sorted(plain)
    return sorted(plain, key=canonical)
