"""Lines about the way of a task: its claim, its run and its outcome."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import assert_never

from partisan_async.claim import Claim
from partisan_async.logs.about import about, about_all, listed, logger
from partisan_async.policy import (
    MAX_UNRECOGNISED,
    Cancelled,
    Decision,
    Deferred,
    Failed,
    Finished,
    GivenBack,
    Interrupted,
    Postponed,
    PutUnder,
    Retried,
    Suspected,
)
from partisan_async.text.printable import plain
from partisan_async.text.retold import rebuilt

_NotDone = Retried | Postponed | Failed | Cancelled | Suspected | Deferred | GivenBack | Interrupted

_EVENTS = {
    Finished: "done",
    Retried: "retried",
    Postponed: "postponed",
    Failed: "failed",
    Cancelled: "cancelled",
    Suspected: "lost",
    Deferred: "deferred",
    GivenBack: "given back",
    PutUnder: "limited",
    Interrupted: "cut off",
}


def claimed(claims: Sequence[Claim], how: str = "claimed") -> None:
    """Say which tasks this supervisor has now; ``how``: "claimed", "rescued" or "found"."""
    if logger.isEnabledFor(logging.INFO):
        logger.info("%s %d%s", how, len(claims), listed(claims), extra=about_all(claims, how))


def settled(claim: Claim, decision: Decision, seconds: float | None) -> None:
    """Say what became of a task; ``seconds``: how long it ran, ``None`` if it never started."""
    if isinstance(decision, PutUnder):
        _put_under(claim, decision)
    elif not isinstance(decision, Finished):
        _not_done(claim, decision, seconds)
    elif logger.isEnabledFor(logging.INFO):
        logger.info(
            "done %s %s in %.0f ms",
            *(claim.id, plain(claim.processor_class), (seconds or 0) * 1000),
            extra=about(claim, _EVENTS[Finished]) | {"seconds": seconds},
        )


def told(claim: Claim, task_id: int, processor_class: str) -> None:
    """Say that a task's end in error has enqueued a call of its ``ON_ERROR``."""
    logger.info(
        "on error %s %s: enqueued %s %s",
        *(claim.id, plain(claim.processor_class), task_id, plain(processor_class)),
        extra=about(claim, "on error") | {"enqueued": task_id},
    )


def _put_under(claim: Claim, decision: PutUnder) -> None:
    logger.info(
        "limited %s %s: its row did not say that it waits for limit %s",
        *(claim.id, plain(claim.processor_class), plain(decision.name)),
        extra=about(claim, _EVENTS[PutUnder]),
    )


def _not_done(claim: Claim, decision: _NotDone, seconds: float | None) -> None:
    of_task = (claim.id, plain(claim.processor_class))
    extra = about(claim, _EVENTS[type(decision)]) | {"seconds": seconds} | _exception(decision)
    match decision:
        case Retried(pause, failure):
            logger.warning(
                "retried %s %s in %g s, after try %d: %s: %s",
                *(*of_task, pause.total_seconds(), claim.tries + 1),
                *(plain(failure.exception_class), plain(failure.message)),
                extra=extra,
            )
        case Postponed(pause, why):
            reason = _because(why.message or why.exception_class) if why else ""
            logger.info(
                "postponed %s %s by %g s%s", *of_task, pause.total_seconds(), reason, extra=extra
            )
        case Failed(failure):
            logger.error(
                "failed %s %s: %s: %s",
                *(*of_task, plain(failure.exception_class), plain(failure.message)),
                exc_info=rebuilt(failure) if logger.isEnabledFor(logging.ERROR) else None,
                extra=extra,
            )
        case Cancelled(_, reason):
            logger.info("cancelled %s %s by itself%s", *of_task, _because(reason), extra=extra)
        case Suspected(failure):
            logger.warning(
                "lost %s %s: its worker process died; it runs again, alone%s",
                *(*of_task, f" ({failure.message})" if failure else ""),
                extra=extra,
            )
        case Deferred(pause, failure):
            logger.warning(
                "deferred %s %s by %g s: this supervisor cannot run it; after %d more deferrals the"
                " task ends in error: %s",
                *(*of_task, pause.total_seconds(), MAX_UNRECOGNISED - claim.unrecognised - 1),
                plain(failure.message),
                extra=extra,
            )
        case Interrupted(pause, failure):
            logger.warning(
                "cut off %s %s: its database session ended or could not be opened; it runs again"
                " in %g s: %s",
                *(*of_task, pause.total_seconds(), plain(" ".join(failure.message.split()))),
                extra=extra,
            )
        case GivenBack():
            logger.info("given back %s %s", *of_task, extra=extra)
        case _:
            assert_never(decision)


def _exception(decision: _NotDone) -> dict[str, str]:
    failure = getattr(decision, "failure", None)
    return {"exception": failure.exception_class} if failure else {}


def _because(reason: str) -> str:
    return f": {plain(reason)}" if reason else ""


def overran(claim: Claim, limit: float | None) -> None:
    """Say that a run is killed; ``limit``: its time limit in seconds."""
    logger.warning(
        "overran %s %s: it does not heed its time limit of %g s; its worker process is killed",
        *(claim.id, plain(claim.processor_class), limit),
        extra=about(claim, "overran"),
    )


def interrupted(running: Sequence[Claim]) -> None:
    """Say which runs a supervisor kills because it stops."""
    logger.warning(
        "stopping: not done in time, given back%s",
        listed(running),
        extra=about_all(running, "interrupted"),
    )


def disowned(running: Sequence[Claim]) -> None:
    """Say which runs are killed because this supervisor no longer has their claims."""
    logger.warning(
        "killed: cancelled, or taken over by another supervisor%s",
        listed(running),
        extra=about_all(running, "disowned"),
    )


def unheard(task_id: int, processor_class: str, error: BaseException) -> None:
    """Say that a process that waits for a task's end polls from now on."""
    logger.warning(
        "task %s %s: lost the LISTEN connection; polling until it is back: %s",
        *(task_id, plain(processor_class), plain(str(error))),
        extra={"event": "unheard", "task_id": task_id, "processor_class": processor_class},
    )
