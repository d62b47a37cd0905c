"""Lines about outcomes that could not be decided, told or written, and about refused rows."""

from __future__ import annotations

from partisan_async.claim import Claim
from partisan_async.logs.about import about, logger
from partisan_async.text.one_line import explain
from partisan_async.text.printable import plain


def undecided(claim: Claim, error: BaseException) -> None:
    """Say that a processor's config raised when the decision about a task was made."""
    logger.error(
        "task %s %s: no decision",
        *(claim.id, plain(claim.processor_class)),
        exc_info=error,
        extra=about(claim, "undecided"),
    )


def untold(claim: Claim, error: BaseException) -> None:
    """Say that counting, logging or signalling a run's end raised."""
    logger.error(
        "task %s %s: its end was not counted, logged and signalled in full",
        *(claim.id, plain(claim.processor_class)),
        exc_info=error,
        extra=about(claim, "untold"),
    )


def no_on_error(claim: Claim, error: BaseException) -> None:
    """Say that an ``ON_ERROR`` cannot be enqueued; the task's own end is written without it."""
    logger.error(
        "task %s %s: its ON_ERROR cannot be enqueued: %s",
        *(claim.id, plain(claim.processor_class), plain(explain(error))),
        extra=about(claim, "no ON_ERROR"),
    )


def row_missing(claim: Claim, model: str) -> None:
    """Say that a task ends as finished without a run: ``ON_MISSING`` wants that."""
    logger.info(
        "task %s %s: finished without a run: the %s that was passed is gone",
        *(claim.id, plain(claim.processor_class), plain(model)),
        extra=about(claim, "row missing"),
    )


def fenced(claim: Claim) -> None:
    """Say that an outcome is dropped because its claim was lost."""
    logger.warning(
        "fenced %s %s: claim %d is not ours any more, so its outcome was not written",
        *(claim.id, plain(claim.processor_class), claim.claim_seq),
        extra=about(claim, "fenced"),
    )


def locked(claim: Claim) -> None:
    """Say that an outcome waits for another transaction, which has locked its row."""
    logger.warning(
        "locked %s %s: another transaction has locked its row; its outcome is written as soon as"
        " that ends",
        *(claim.id, plain(claim.processor_class)),
        extra=about(claim, "locked"),
    )


def unstorable(claim: Claim, error: BaseException) -> None:
    """Say that the database refuses a result, or the text of an error."""
    logger.error(
        "task %s %s: the text of its outcome cannot be stored, and is replaced or left out: %s",
        *(claim.id, plain(claim.processor_class), plain(explain(error))),
        extra=about(claim, "unstorable"),
    )


def left(claim: Claim, error: BaseException) -> None:
    """Say that the database refuses any outcome of a task."""
    logger.critical(
        "left %s %s: the database refuses its outcome, so its row stays in process and nobody runs"
        " it again: %s; mend that, then `manage.py partisan cancel %s`",
        *(claim.id, plain(claim.processor_class), plain(explain(error)), claim.id),
        extra=about(claim, "left"),
    )


def passed_over(
    task_id: int,
    what: str,
    seconds: float,
    error: BaseException,
    row: tuple[int, str, str] | None,
) -> None:
    """Say that a refused row is left out for a while, so that others can be taken.

    :param what: what cannot be done to the row, such as "claim".
    :param seconds: time until it is tried again.
    :param row: its claim_seq, processor_class and queue_name; ``None``: it is gone.
    """
    of_row = dict(zip(("claim_seq", "processor_class", "queue_name"), row or (), strict=False))
    logger.error(
        "passed over %s: the database refuses to %s it; this is tried again every %g s: %s",
        *(task_id, what, seconds, plain(explain(error))),
        extra={"event": "passed over", "task_id": task_id} | of_row,
    )


def not_announced(count: int, error: BaseException) -> None:
    """Say that the NOTIFY about the ends of some tasks failed."""
    logger.warning(
        "the NOTIFY about the end of %d task(s) failed: %s",
        *(count, explain(error)),
        extra={"event": "not announced"},
    )


def keys_not_paused(count: int, error: BaseException) -> None:
    """Say that keys of limits could not be paused, as their tasks had asked for."""
    logger.warning(
        "%d key(s) of limits were not paused as their tasks had asked for: %s",
        count,
        explain(error),
        extra={"event": "keys not paused"},
    )


def not_woken(count: int, error: BaseException) -> None:
    """Say that the NOTIFY about some calls of an ``ON_ERROR`` failed."""
    logger.warning(
        "the NOTIFY about %d task(s) of an ON_ERROR failed: %s",
        *(count, explain(error)),
        extra={"event": "not woken"},
    )


def settle_failed(error: BaseException) -> None:
    """Say that a settle failed, so that outcomes wait for the database."""
    logger.warning(
        "settle failed, trying again: %s", explain(error), extra={"event": "settle failed"}
    )
