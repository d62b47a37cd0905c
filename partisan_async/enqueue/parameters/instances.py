"""Turns the model instances of a call into keys, and stored keys into instances."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.db.models import Model

from partisan_async.enqueue.parameters.rows import Key, key_of, read_key, stored_key

Instances = Callable[[type[Model], Any], Model]
"""Returns the instance of a stored key."""


class Saved:
    """Stores the instances of one call as keys, and reads these back without a query."""

    def __init__(self) -> None:
        self._known: dict[Key, Model] = {}

    def store(self, instance: Model) -> Any:
        """Return the stored form of an instance's key."""
        key = key_of(instance)
        self._known.setdefault(key, instance)
        return stored_key(key)

    def __call__(self, model: type[Model], stored: Any) -> Model:
        """Return the instance whose key was stored."""
        instance = self._known.get(read_key(model, stored))
        if instance is None:
            raise ValueError(f"no {model.__name__}")
        return instance


class Wanted:
    """Collects the keys of a stored call; returns empty instances, which nobody uses."""

    def __init__(self) -> None:
        self.keys: set[Key] = set()

    def __call__(self, model: type[Model], stored: Any) -> Model:
        """Note a key."""
        self.keys.add(read_key(model, stored))
        return model.__new__(model)


class Fetched:
    """Returns the fetched row of each key of a stored call."""

    def __init__(self, fetched: Mapping[Key, Model]) -> None:
        self._fetched = fetched

    def __call__(self, model: type[Model], stored: Any) -> Model:
        """Return the row of a key."""
        return self._fetched[read_key(model, stored)]
