"""Changes the texts of an outcome that the database refuses, so that it can be stored."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from partisan_async.claim import Settlement
from partisan_async.exceptions import TEN_YEARS_SECONDS
from partisan_async.policy import (
    Cancelled,
    Decision,
    Failed,
    Failure,
    Finished,
    Postponed,
    PutUnder,
    Retried,
    Suspected,
)
from partisan_async.postgres.encodings import within

LONGEST_PAUSE = timedelta(seconds=TEN_YEARS_SECONDS)
"""Maximum pause. A longer one was changed after its check, and its moment could not be stored."""

LOST_TEXT = "The text of this error could not be stored."


def reduced(settlement: Settlement, encoding: str) -> Iterator[Settlement]:
    """Yield what to write instead, first with all of its text that can be stored, then without.

    The decision about the task stays the same, unless its moment cannot be stored.

    :param encoding: the database's, as PostgreSQL names it.
    """
    attempt = settlement.attempt
    if attempt is not None:
        attempt = attempt._replace(worker_id=within(attempt.worker_id, encoding))
    decision = _with_texts(settlement.decision, encoding)
    storable = settlement._replace(decision=decision, attempt=attempt)
    if storable != settlement:
        yield storable
    bare = storable._replace(decision=_bare(decision))
    if bare != storable:
        yield bare
    if isinstance(decision, PutUnder):
        failure = Failure("builtins.ValueError", "The key of its limit could not be stored.")
        yield storable._replace(decision=Failed(failure))
    pause = getattr(decision, "pause", None)
    if pause is not None and pause > LONGEST_PAUSE:
        failure = Failure("builtins.OverflowError", f"It was to run again after {pause}.")
        yield storable._replace(decision=Failed(failure))


def _with_texts(decision: Decision, encoding: str) -> Decision:
    match decision:
        case Finished(str(result)):
            plain = json.dumps(json.loads(result), ensure_ascii=False, separators=(",", ":"))
            # Keep the escapes if no character was replaced: the database reads them, too.
            stored = within(plain, encoding)
            return decision if stored == plain else replace(decision, result=stored)
        case (
            Failed(failure)
            | Retried(_, failure)
            | Postponed(_, Failure() as failure)
            | Suspected(Failure() as failure)
        ):
            return replace(decision, failure=_within(failure, encoding))
        case Cancelled(failure, reason):
            return Cancelled(_within(failure, encoding), within(reason, encoding))
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
        case Cancelled(failure):
            return Cancelled(Failure(failure.exception_class, LOST_TEXT), "")
        case _:
            return decision


def _within(failure: Failure, encoding: str) -> Failure:
    texts = (failure.exception_class, failure.message, failure.traceback)
    return Failure(*(within(text, encoding) for text in texts))
