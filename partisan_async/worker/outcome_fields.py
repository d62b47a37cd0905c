"""Encodes an outcome for a frame: the name of its class, and its fields.

No exception object is sent, only what the row keeps of it.
"""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

from partisan_async.policy import (
    RETURNED,
    CancelAsked,
    CutOff,
    Failure,
    Fit,
    Limited,
    Outcome,
    PostponeAsked,
    Raised,
    Returned,
    Unrecognised,
)


def fields_of(outcome: Outcome) -> list[Any]:
    """Return the fields of an outcome for a frame, in types of JSON."""
    name = type(outcome).__name__
    match outcome:
        case Returned(result, settled) if result is not None or settled:
            return [name, result, settled]
        case PostponeAsked(seconds, why, False, False):
            return [name, seconds, why and _told(why)]
        case PostponeAsked(seconds, why, stopping, whole_key):
            return [name, seconds, why and _told(why), stopping, whole_key]
        case Raised(failure, fit):
            return [name, _told(failure), fit and astuple(fit)]
        case CancelAsked(failure, reason):
            return [name, _told(failure), reason]
        case Unrecognised(failure):
            return [name, _told(failure)]
        case Limited(limit_name, key, in_order):
            return [name, limit_name, key, in_order]
        case CutOff(failure, begun):
            return [name, _told(failure), begun]
        case _:
            return [name]


def outcome_of(name: str, values: list[Any]) -> Outcome:
    """Return the outcome that has these fields.

    :raises ValueError, TypeError: no outcome has them.
    """
    match name, values:
        case "Returned", []:
            return RETURNED
        case "Returned", [result, settled]:
            return Returned(result, settled)
        case "PostponeAsked", [seconds, why, *more]:
            return PostponeAsked(seconds, why and Failure(*why), *more)
        case "Raised", [failure, fit]:
            return Raised(Failure(*failure), fit and Fit(*fit))
        case "CancelAsked", [failure, reason]:
            return CancelAsked(Failure(*failure), reason)
        case "Limited", [limit_name, key, in_order]:
            return Limited(limit_name, key, in_order)
        case "CutOff", [failure, begun]:
            return CutOff(Failure(*failure), begun)
        case "Unrecognised", [failure]:
            return Unrecognised(Failure(*failure))
        case _:
            raise ValueError(name)


def _told(failure: Failure) -> list[Any]:
    return [failure.exception_class, failure.message, failure.traceback, failure.chain]
