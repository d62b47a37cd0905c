"""Binds a call to the parameters of ``run()``, and says what is wrong if it does not fit."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches
from inspect import Parameter
from typing import Any

from partisan_async.enqueue.parameters.signature import Declared, shown

_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


class Binding:
    """Finds the parameter that each value of a call is for."""

    def __init__(self, declared: Declared) -> None:
        self.declared = declared
        self.positional = [each.name for each in declared if each.kind in _BY_POSITION]
        self.rest = _named(declared, Parameter.VAR_POSITIONAL)
        self.more = _named(declared, Parameter.VAR_KEYWORD)
        self.defaults = {e.name: e.default for e in declared if e.default is not e.empty}
        after = [_open_after(declared, count) for count in range(len(self.positional) + 1)]
        self.after = after
        """For each number of values passed by position: the names that must follow, and those that
        may."""

    def of(self, count: int) -> tuple[list[str], Collection[str]] | None:
        """Return the names that must, and those that may, follow ``count`` values by position.

        ``None``: there are too many values.
        """
        if count < len(self.after):
            return self.after[count]
        return None if self.rest is None else self.after[-1]

    def fault(self, count: int, names: Collection[str]) -> str | None:
        """Return what is wrong with a call of ``count`` values by position and these by name."""
        follow = self.of(count)
        if follow is None:
            most = len(self.positional)
            return f"it takes {most} by position, and got {count}; {self._way_out()}"
        must, may = follow
        if self.more is None and (wrong := [name for name in names if name not in may]):
            return self._wrong_name(wrong[0], self.positional[:count])
        twice = [name for name in names if name in self.positional[:count] and self._named(name)]
        if twice:
            return self._wrong_name(twice[0], self.positional[:count])
        missing = [name for name in must if name not in names or not self._named(name)]
        if missing:
            return f"{_listed(missing)} missing; {self._way_out()}"
        return None

    def owner(self, place: int | str) -> str | None:
        """Return the parameter that takes the value at a position or by a name."""
        if isinstance(place, int):
            return self.positional[place] if place < len(self.positional) else self.rest
        return place if self._named(place) else self.more

    def _named(self, name: str) -> bool:
        return any(each.name == name and each.kind in _BY_NAME for each in self.declared)

    def _wrong_name(self, name: str, taken: Sequence[str]) -> str:
        if name in taken and self._named(name):
            return f"{name} is passed twice, by position and by name; pass it once"
        if name in self.positional:
            return f"{name} is passed by name, and is taken by position alone; {self._way_out()}"
        meant = get_close_matches(name, [e.name for e in self.declared if e.kind in _BY_NAME], 1)
        hint = f"did you mean {meant[0]}?" if meant else self._way_out()
        return f"there is no parameter {name}; {hint}"

    def _way_out(self) -> str:
        return f"call it as {shown(self.declared)} says"


def _named(declared: Declared, kind: Any) -> str | None:
    return next((each.name for each in declared if each.kind is kind), None)


def _open_after(declared: Declared, count: int) -> tuple[list[str], Collection[str]]:
    by_position = [each for each in declared if each.kind in _BY_POSITION]
    only_named = [each for each in declared if each.kind is Parameter.KEYWORD_ONLY]
    still = [*by_position[count:], *only_named]
    must = [each.name for each in still if each.default is each.empty]
    return must, frozenset(each.name for each in still if each.kind in _BY_NAME)


def _listed(names: Sequence[str]) -> str:
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'}"
