"""Writes calls of plain values as JSON, faster than a function call for each value would be.

Most calls have a few texts and numbers. Any other value is left to the slow way, which also says
what is wrong. Both ways write the same text, byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from json.encoder import encode_basestring_ascii
from typing import Any

from partisan_async.enqueue.arguments import quoted
from partisan_async.enqueue.parameters.binding import Binding

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1

_PLAIN: frozenset[type] = frozenset({str, int, bool, type(None)})

Kinds = frozenset[type]


def plain_kinds(hint: Any) -> Kinds:
    """Return the exact types that a plain value of a parameter may have."""
    if hint is Any:
        return _PLAIN
    try:
        hash(hint)
    except TypeError:  # Annotated, with something unhashable
        return frozenset()
    given = getattr(hint, "__args__", (hint,))
    inner: set[Any] = {type(None) if each is None else each for each in given}
    plain: Kinds = frozenset(each for each in inner if isinstance(each, type) and each in _PLAIN)
    optional = len(inner) == 2 and type(None) in inner and len(plain) == 2
    # Compare the hint, too: list[int] also has __args__.
    return plain if hint in _PLAIN or (optional and hint == _optional(plain)) else frozenset()


def _optional(plain: Kinds) -> Any:
    (inner,) = plain - {type(None)}
    return inner | None


class PlainCalls:
    """Writes the plain calls of one processor.

    :param kinds: the plain types of each parameter, by its name.
    """

    def __init__(self, binding: Binding, kinds: Mapping[str, Kinds]) -> None:
        self._kinds = [kinds[name] for name in binding.positional]
        self._must = [must for must, _ in binding.after]
        self._may = [
            {name: (f"{quoted(name)}:", kinds[name]) for name in may} for _, may in binding.after
        ]

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
        """Return the JSON of a call that is correct and plain; else ``None``."""
        # Repeat the branches instead of sharing a function: its call would double their cost.
        texts, count, kinds = [], 0, self._kinds
        if len(args) > len(kinds):
            return None
        for value in args:
            kind = type(value)
            if kind not in kinds[count]:
                return None
            count += 1
            if kind is str:
                if not value.isascii() or "\x00" in value:
                    return None
                texts.append(encode_basestring_ascii(value))
            elif kind is int:
                if not _LOWEST <= value <= _HIGHEST:
                    return None
                texts.append(str(value))
            else:
                texts.append("null" if value is None else "true" if value else "false")
        for name in self._must[count]:
            if name not in kwargs:
                return None
        if not kwargs:
            return f'{{"args":[{",".join(texts)}],"kwargs":{{}}}}'
        pairs, may = [], self._may[count]
        for name in sorted(kwargs):
            value = kwargs[name]
            kind = type(value)
            if name not in may:
                return None
            key, named = may[name]
            if kind not in named:
                return None
            if kind is str:
                if not value.isascii() or "\x00" in value:
                    return None
                pairs.append(key + encode_basestring_ascii(value))
            elif kind is int:
                if not _LOWEST <= value <= _HIGHEST:
                    return None
                pairs.append(key + str(value))
            else:
                pairs.append(key + ("null" if value is None else "true" if value else "false"))
        return f'{{"args":[{",".join(texts)}],"kwargs":{{{",".join(pairs)}}}}}'
