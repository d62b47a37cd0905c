"""Turns what the supervisor does into log lines; the event and the task come first in each.

For programs the same is on the record: ``event``, and of the task ``task_id``, ``claim_seq``,
``processor_class``, ``queue_name`` and ``seconds``; ``task_ids`` where it is about several;
``exception``, the dotted name of its class, where it is about an error.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from partisan_async.claim import Claim
from partisan_async.logs import log_fields as log_fields
from partisan_async.policy import (
    MAX_UNRECOGNISED,
    Decision,
    Deferred,
    Failed,
    Finished,
    GivenBack,
    Interrupted,
    Postponed,
    Retried,
    Suspected,
)
from partisan_async.postgres.blame import explain
from partisan_async.text.printable import plain as plain
from partisan_async.text.retold import rebuilt

logger = logging.getLogger("partisan_async")

_EVENTS = {
    Finished: "done",
    Retried: "retried",
    Postponed: "postponed",
    Failed: "failed",
    Suspected: "lost",
    Deferred: "deferred",
    GivenBack: "given back",
    Interrupted: "cut off",
}


def attach_handler() -> None:
    """Have the package's lines printed where nobody configured logging for them.

    Django's default configuration prints no INFO of other packages.
    """
    if logger.hasHandlers():
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def started(queue_name: str, workers: int, database: str, woken: str) -> None:
    logger.info(
        "started: queue %r, %d worker%s, database %s, woken %s",
        queue_name,
        workers,
        "" if workers == 1 else "s",
        database,
        woken,
        extra={"event": "started", "queue_name": queue_name},
    )


def paused(queue_name: str, processor_class: str | None = None) -> None:
    """Say it; ``processor_class``: of this alone."""
    logger.info(
        "paused: %squeue %r; what runs goes on, and nothing is started",
        _of(processor_class),
        queue_name,
        extra=_of_pause("paused", queue_name, processor_class),
    )


def resumed(queue_name: str, processor_class: str | None = None) -> None:
    """Say it; ``processor_class``: of this alone."""
    logger.info(
        "resumed: %squeue %r",
        _of(processor_class),
        queue_name,
        extra=_of_pause("resumed", queue_name, processor_class),
    )


def not_parked(error: Exception) -> None:
    """Say that rows of paused processors stay where claims have to pass over them."""
    logger.info(
        "tasks of paused processors were not set aside: %s",
        explain(error),
        extra={"event": "not parked"},
    )


def _of(processor_class: str | None) -> str:
    return "" if processor_class is None else f"processor {plain(processor_class)} of "


def _of_pause(event: str, queue_name: str, processor_class: str | None) -> dict[str, str]:
    extra = {"event": event, "queue_name": queue_name}
    return extra if processor_class is None else extra | {"processor_class": processor_class}


def odd_supervisor(supervisor_id: str) -> None:
    """Tell of a supervisor's row that cannot be read."""
    logger.warning(
        "supervisor %s: what its row says of its process cannot be read; its tasks are taken over"
        " when it has been silent for long enough, and not before",
        supervisor_id,
        extra={"event": "odd row", "supervisor_id": supervisor_id},
    )


def claimed(claims: Sequence[Claim], how: str = "claimed") -> None:
    if logger.isEnabledFor(logging.INFO):
        logger.info("%s %d%s", how, len(claims), _listed(claims), extra=_about_all(claims, how))


def settled(claim: Claim, decision: Decision, seconds: float | None) -> None:
    """Say what became of a task; ``seconds``: how long it ran, ``None`` if it never did."""
    if isinstance(decision, Finished) and not logger.isEnabledFor(logging.INFO):
        return
    task, name = claim.id, plain(claim.processor_class)
    about = _about(claim, _EVENTS[type(decision)]) | {"seconds": seconds}
    if failure := getattr(decision, "failure", None):
        about["exception"] = failure.exception_class
    match decision:
        case Finished():
            logger.info("done %s %s in %.0f ms", task, name, (seconds or 0) * 1000, extra=about)
        case Retried(pause, failure):
            logger.warning(
                "retried %s %s in %g s, after try %d: %s: %s",
                task,
                name,
                pause.total_seconds(),
                claim.tries + 1,
                plain(failure.exception_class),
                plain(failure.message),
                extra=about,
            )
        case Postponed(pause, why):
            logger.info(
                "postponed %s %s by %g s%s",
                task,
                name,
                pause.total_seconds(),
                f": {plain(why.message or why.exception_class)}" if why else "",
                extra=about,
            )
        case Failed(failure):
            logger.error(
                "failed %s %s: %s: %s",
                task,
                name,
                plain(failure.exception_class),
                plain(failure.message),
                exc_info=rebuilt(failure) if logger.isEnabledFor(logging.ERROR) else None,
                extra=about,
            )
        case Suspected(failure):
            logger.warning(
                "lost %s %s: its worker process died; it runs again, alone%s",
                task,
                name,
                f" ({failure.message})" if failure else "",
                extra=about,
            )
        case Deferred(pause):
            logger.warning(
                "deferred %s %s by %g s: this supervisor knows no such processor; if none does, it"
                " ends in error after %d more",
                task,
                name,
                pause.total_seconds(),
                MAX_UNRECOGNISED - claim.unrecognised - 1,
                extra=about,
            )
        case Interrupted(pause, failure):
            logger.warning(
                "cut off %s %s: its session with the database was ended or could not be had; it"
                " runs again in %g s: %s",
                task,
                name,
                pause.total_seconds(),
                plain(" ".join(failure.message.split())),
                extra=about,
            )
        case GivenBack():
            logger.info("given back %s %s", task, name, extra=about)


def ticked(processor_class: str, ticks: Sequence[datetime], ids: Sequence[int]) -> None:
    """Say what ticks enqueued; ``ids``: none, where an identical call waits."""
    name = plain(processor_class)
    about = {"event": "ticked", "task_ids": list(ids), "processor_class": processor_class}
    if not ids:
        logger.info(
            "not ticked: %s, tick of %s; an identical task still waits", name, ticks[0], extra=about
        )
    elif len(ids) == 1:
        logger.info("ticked %s %s, tick of %s", ids[0], name, ticks[0], extra=about)
    else:
        logger.warning(
            "caught up with %d ticks of %s, from %s to %s",
            len(ids),
            name,
            ticks[0],
            ticks[-1],
            extra=about,
        )


def moved_up(processor_class: str, found: datetime, own: datetime) -> None:
    """Say that a clock was wrong."""
    logger.warning(
        "moved up the tick of %s from %s to %s: the database's clock was ahead when it was counted",
        plain(processor_class),
        found,
        own,
        extra={"event": "moved up", "processor_class": processor_class},
    )


def missed(processor_class: str, tick: datetime, following: datetime) -> None:
    """Say that one task stands for several ticks."""
    logger.warning(
        "missed ticks of %s: its task of %s is for all before %s",
        plain(processor_class),
        tick,
        following,
        extra={"event": "missed", "processor_class": processor_class},
    )


def stopping(running: Sequence[Claim]) -> None:
    logger.info(
        "stopping: waiting for %d running task(s)%s",
        len(running),
        _listed(running),
        extra=_about_all(running, "stopping"),
    )


def interrupted(running: Sequence[Claim]) -> None:
    logger.warning(
        "stopping: not done in time, given back%s",
        _listed(running),
        extra=_about_all(running, "interrupted"),
    )


def disowned(running: Sequence[Claim]) -> None:
    logger.warning(
        "killed, being cancelled or another's by now%s",
        _listed(running),
        extra=_about_all(running, "disowned"),
    )


def fenced(claim: Claim) -> None:
    logger.warning(
        "fenced %s %s: claim %d is not ours any more, so its outcome was not written",
        claim.id,
        plain(claim.processor_class),
        claim.claim_seq,
        extra=_about(claim, "fenced"),
    )


def failed_after_commit(claim: Claim, error: BaseException) -> None:
    logger.error(
        "failed after its end %s %s: it is done and committed, and what it had left for on_commit()"
        " raised",
        claim.id,
        plain(claim.processor_class),
        exc_info=error,
        extra=_about(claim, "failed after its end"),
    )


def not_told(claim: Claim) -> None:
    logger.error(
        "not told %s %s: a receiver of task_lost blocks, and too many losses wait for it",
        claim.id,
        plain(claim.processor_class),
        extra=_about(claim, "not told"),
    )


def undecided(claim: Claim, error: BaseException) -> None:
    logger.error(
        "task %s %s: no decision",
        claim.id,
        plain(claim.processor_class),
        exc_info=error,
        extra=_about(claim, "undecided"),
    )


def untold(claim: Claim, error: BaseException) -> None:
    logger.error(
        "task %s %s: its end was not told",
        claim.id,
        plain(claim.processor_class),
        exc_info=error,
        extra=_about(claim, "untold"),
    )


def receiver_failed(
    signal: str, receiver: Any, error: BaseException, task: tuple[Any, str, str] | None
) -> None:
    """Say that a receiver raised.

    :param task: id, processor and queue of whose turn it was told, if it was about one.
    """
    about: dict[str, Any] = {"event": "receiver failed"}
    if task is not None:
        about |= dict(zip(("task_id", "processor_class", "queue_name"), task, strict=True))
    logger.error(
        "receiver failed%s: %s of %s",
        f" {task[0]} {plain(task[1])}" if task else "",
        getattr(receiver, "__qualname__", None) or repr(receiver),
        signal,
        exc_info=error,
        extra=about,
    )


def cache_not_closed(claim: Claim, error: BaseException) -> None:
    logger.error(
        "cache not closed %s %s: its close() raised after the run",
        claim.id,
        plain(claim.processor_class),
        exc_info=error,
        extra=_about(claim, "cache not closed"),
    )


def unstorable(claim: Claim, error: BaseException) -> None:
    logger.error(
        "task %s %s: the text of its outcome cannot be stored, and is replaced or left out: %s",
        claim.id,
        plain(claim.processor_class),
        plain(explain(error)),
        extra=_about(claim, "unstorable"),
    )


def left(claim: Claim, error: BaseException) -> None:
    logger.critical(
        "left %s %s: the database refuses its outcome, whatever that is, so that its row stays in"
        " process and nobody runs it again: %s; mend that, then `manage.py partisan cancel %s`",
        claim.id,
        plain(claim.processor_class),
        plain(explain(error)),
        claim.id,
        extra=_about(claim, "left"),
    )


def passed_over(
    task_id: int,
    what: str,
    seconds: float,
    error: BaseException,
    row: tuple[int, str, str] | None,
) -> None:
    """Say that a row is in the way of others, and not touched for a while.

    :param row: its claim_seq, processor_class and queue_name; ``None``: it is gone.
    """
    about = dict(zip(("claim_seq", "processor_class", "queue_name"), row or (), strict=False))
    logger.error(
        "passed over %s: the database refuses to %s it, which is tried again every %g s: %s",
        task_id,
        what,
        seconds,
        plain(explain(error)),
        extra={"event": "passed over", "task_id": task_id} | about,
    )


def refused(by: str, error: BaseException) -> None:
    """Say what the database says of what somebody wanted done in the admin."""
    logger.warning(
        "refused: what %s wanted done in the admin: %s",
        plain(by),
        plain(explain(error)),
        extra={"event": "refused", "by": by},
    )


def overran(claim: Claim, limit: float | None) -> None:
    logger.warning(
        "overran %s %s: it does not heed its time limit of %g s; its worker process is killed",
        claim.id,
        plain(claim.processor_class),
        limit,
        extra=_about(claim, "overran"),
    )


def locked(claim: Claim) -> None:
    logger.warning(
        "locked %s %s: another transaction has locked its row; its outcome is written as soon as"
        " that ends",
        claim.id,
        plain(claim.processor_class),
        extra=_about(claim, "locked"),
    )


def _listed(claims: Sequence[Claim]) -> str:
    if not claims:
        return ""
    return ": " + ", ".join(f"{claim.id} {plain(claim.processor_class)}" for claim in claims)


def _about(claim: Claim, event: str) -> dict[str, Any]:
    return {
        "event": event,
        "task_id": claim.id,
        "claim_seq": claim.claim_seq,
        "processor_class": claim.processor_class,
        "queue_name": claim.queue_name,
    }


def _about_all(claims: Sequence[Claim], event: str) -> dict[str, Any]:
    return {"event": event, "task_ids": [claim.id for claim in claims]}
