"""Makes of an outcome that the database refuses one that it takes: the same, in other words."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from partisan_async.claim import Settlement
from partisan_async.exceptions import TEN_YEARS_SECONDS
from partisan_async.policy import Decision, Failed, Failure, Finished, Postponed, Retried, Suspected

LONGEST_PAUSE = timedelta(seconds=TEN_YEARS_SECONDS)
"""A longer one was changed after it was checked, and no moment may be so far."""

LOST_TEXT = "The text of this error could not be stored."


def reduced(settlement: Settlement, encoding: str) -> Iterator[Settlement]:
    """Yield what to write instead, first with all of its text that can be stored, then without.

    What becomes of the task stays as it was decided, unless that is a moment that cannot be.

    :param encoding: the database's, as PostgreSQL names it.
    """
    codec = _codec(encoding)
    attempt = settlement.attempt
    if attempt is not None:
        attempt = attempt._replace(worker_id=_storable(attempt.worker_id, codec))
    decision = _with_texts(settlement.decision, codec)
    storable = settlement._replace(decision=decision, attempt=attempt)
    if storable != settlement:
        yield storable
    bare = storable._replace(decision=_bare(decision))
    if bare != storable:
        yield bare
    pause = getattr(decision, "pause", None)
    if pause is not None and pause > LONGEST_PAUSE:
        failure = Failure("builtins.OverflowError", f"It was to run again after {pause}.")
        yield storable._replace(decision=Failed(failure))


def _with_texts(decision: Decision, codec: str) -> Decision:
    match decision:
        case Finished(str(result)):
            plain = json.dumps(json.loads(result), ensure_ascii=False, separators=(",", ":"))
            # As it was, where nothing is replaced: the database reads escapes, too.
            stored = _storable(plain, codec)
            return decision if stored == plain else replace(decision, result=stored)
        case (
            Failed(failure)
            | Retried(_, failure)
            | Postponed(_, Failure() as failure)
            | Suspected(Failure() as failure)
        ):
            texts = (failure.exception_class, failure.message, failure.traceback)
            return replace(decision, failure=Failure(*(_storable(text, codec) for text in texts)))
        case _:
            return decision


def _bare(decision: Decision) -> Decision:
    match decision:
        case Finished(str()):
            return replace(decision, result=None)
        case (
            Failed(failure)
            | Retried(_, failure)
            | Postponed(_, Failure() as failure)
            | Suspected(Failure() as failure)
        ):
            name = re.sub(r"[^\w.]", "?", failure.exception_class, flags=re.ASCII)
            return replace(decision, failure=Failure(name[:255], LOST_TEXT))
        case _:
            return decision


def _storable(text: str, codec: str) -> str:
    return text.encode(codec, "replace").decode(codec)


def _codec(encoding: str) -> str:
    """Return Python's name of an encoding of PostgreSQL's; where it has none, ASCII's."""
    name = encoding.upper().replace("WIN", "CP").replace("KOI8", "KOI8-")
    try:
        return codecs.lookup(name).name
    except LookupError:
        return "ascii"
