"""Tells whether a stored value has more than what was made of it.

A dataclass and a ``TypedDict`` are made of the fields that this code knows, and of no others.
"""

from __future__ import annotations

import dataclasses
from typing import Any


def has_more(stored: Any, made: Any) -> bool:
    """Tell whether something is stored that was left out when it was read."""
    if isinstance(stored, dict):
        return _dict_has_more(stored, made)
    if not isinstance(stored, list):
        return False
    if isinstance(made, list | tuple):
        return any(has_more(*each) for each in zip(stored, made, strict=False))
    if isinstance(made, set | frozenset):  # in an order of its own
        return any(all(has_more(each, one) for one in made) for each in stored)
    return False


def _dict_has_more(stored: dict[str, Any], made: Any) -> bool:
    if dataclasses.is_dataclass(made):
        known = {each.name for each in dataclasses.fields(made)}
        return any(
            name not in known or has_more(value, getattr(made, name))
            for name, value in stored.items()
        )
    if not isinstance(made, dict):  # of a model's key, or of Any
        return False
    if len(made) != len(stored):
        return True
    if made.keys() == stored.keys():
        return any(has_more(value, made[key]) for key, value in stored.items())
    # Keys that are no text are made in the order of what is stored.
    return any(has_more(*each) for each in zip(stored.values(), made.values(), strict=True))
