"""What a test asks of a stored call: whether it passes a value, to a parameter or at a place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from partisan_async import store
from partisan_async.enqueue.parameters import Stored
from partisan_async.enqueue.parameters.stored import Place, as_given_back

if TYPE_CHECKING:
    from partisan_async.enqueue.parameters.parameters import Parameters


class Asked:
    """Answers by the parameters of one processor's ``run()``; it fetches no row."""

    def __init__(self, processor_name: str, parameters: Parameters) -> None:
        self._name = processor_name
        self._binding = parameters.binding
        self._by_name = parameters.by_name
        self._defaults = self._binding.defaults

    def holds(self, stored: Stored, name: str, value: Any) -> bool:
        """Tell whether a stored call passes this value to a parameter, or leaves it out for it.

        :param name: ``args`` of ``*args`` stands for each of its values, as does ``kwargs`` of
            ``**kwargs``; a name in it may be asked for, too, if no parameter has it.
        :raises TypeError, ValueError: no call could pass it, or there is no such parameter.
        """
        owner = name if name in self._by_name else self._binding.owner(name)
        if owner is None:
            raise TypeError(f"{self._name} has no parameter {name}.")
        wanted = as_given_back(self._by_name[owner].encode(value, name))
        places = [place for place in stored.places() if self._is_asked(place, name)]
        if not places:
            return name in self._defaults and same(self._defaults[name], value)
        return all(same(wanted, stored.at(place)) for place in places)

    def passes(self, stored: Stored, kind: str, values: Mapping[Any, Any]) -> bool:
        """Tell whether a stored call passes exactly these values by position, or by name.

        :param kind: ``"args"``, and the values have their positions; or ``"kwargs"``.
        :raises TypeError, ValueError: no call could pass them.
        """
        wanted = {where: self._stored(where, value) for where, value in values.items()}
        return same(
            wanted, {where: stored.at((k, where)) for k, where in stored.places() if k == kind}
        )

    def _is_asked(self, place: Place, name: str) -> bool:
        owner = self._binding.owner(place[1])
        return owner == name if name in self._by_name else place == ("kwargs", name)

    def _stored(self, where: int | str, value: Any) -> Any:
        name = self._binding.owner(where)
        if name is None:
            raise TypeError(f"{self._name}.run() does not take the argument {where!r}.")
        return as_given_back(self._by_name[name].encode(value, name))


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are equal, and ``True`` is not 1, as it is not in JSON."""
    match one, other:
        case (bool(), _) | (_, bool()):
            return one is other
        # With routers an instance is stored with its database, and the id of a task that an
        # ON_ERROR is called with is without one.
        case ({"database": database, "key": key}, int() as pk):
            return bool(database == store.database() and key == pk)
        case list(), list():
            return len(one) == len(other) and all(map(same, one, other))
        case dict(), dict():
            return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
        case _:
            return bool(one == other)
