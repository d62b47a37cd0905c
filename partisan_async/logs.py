"""Turns what the supervisor does into log lines; the event and the task come first in each."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from partisan_async.policy import (
    MAX_UNRECOGNISED,
    Decision,
    Deferred,
    Failed,
    Finished,
    GivenBack,
    Postponed,
    Retried,
    Suspected,
)
from partisan_async.store import Claim

logger = logging.getLogger("partisan_async")


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


def plain(text: str) -> str:
    """Return the text as one line that can do nothing but be read.

    Names and messages come from rows and from errors: with a line break in it one would forge
    lines, and with an escape sequence it would command the terminal.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def started(queue_name: str, workers: int, database: str, woken: str) -> None:
    logger.info(
        "started: queue %r, %d worker%s, database %s, woken %s",
        queue_name,
        workers,
        "" if workers == 1 else "s",
        database,
        woken,
    )


def claimed(claims: Sequence[Claim], how: str = "claimed") -> None:
    if logger.isEnabledFor(logging.INFO):
        logger.info("%s %d%s", how, len(claims), _listed(claims))


def settled(claim: Claim, decision: Decision, seconds: float | None) -> None:
    """Say what became of a task; ``seconds``: how long it ran, ``None`` if it never did."""
    if isinstance(decision, Finished) and not logger.isEnabledFor(logging.INFO):
        return
    task, name = claim.id, plain(claim.processor_class)
    match decision:
        case Finished():
            logger.info("done %s %s in %.0f ms", task, name, (seconds or 0) * 1000)
        case Retried(pause, failure):
            logger.warning(
                "retried %s %s in %g s, after try %d: %s: %s",
                task,
                name,
                pause.total_seconds(),
                claim.tries + 1,
                plain(failure.exception_class),
                plain(failure.message),
            )
        case Postponed(pause):
            logger.info("postponed %s %s by %g s", task, name, pause.total_seconds())
        case Failed(failure):
            logger.error(
                "failed %s %s: %s: %s",
                task,
                name,
                plain(failure.exception_class),
                plain(failure.message),
            )
        case Suspected(failure):
            logger.warning(
                "lost %s %s: its worker process died; it runs again, alone%s",
                task,
                name,
                f" ({failure.message})" if failure else "",
            )
        case Deferred(pause):
            logger.warning(
                "deferred %s %s by %g s: this supervisor knows no such processor; if none does, it"
                " ends in error after %d more",
                task,
                name,
                pause.total_seconds(),
                MAX_UNRECOGNISED - claim.unrecognised - 1,
            )
        case GivenBack():
            logger.info("given back %s %s", task, name)


def stopping(running: Sequence[Claim]) -> None:
    logger.info("stopping: waiting for %d running task(s)%s", len(running), _listed(running))


def interrupted(running: Sequence[Claim]) -> None:
    logger.warning("stopping: not done in time, given back%s", _listed(running))


def disowned(running: Sequence[Claim]) -> None:
    logger.warning("killed, being another's by now%s", _listed(running))


def fenced(claim: Claim) -> None:
    logger.warning(
        "fenced %s %s: claim %d is not ours any more, so its outcome was not written",
        claim.id,
        plain(claim.processor_class),
        claim.claim_seq,
    )


def overran(claim: Claim, limit: float | None) -> None:
    logger.warning(
        "overran %s %s: it does not heed its time limit of %g s; its worker process is killed",
        claim.id,
        plain(claim.processor_class),
        limit,
    )


def locked(claim: Claim) -> None:
    logger.warning(
        "locked %s %s: another transaction has locked its row; its outcome is written as soon as"
        " that ends",
        claim.id,
        plain(claim.processor_class),
    )


def _listed(claims: Sequence[Claim]) -> str:
    if not claims:
        return ""
    return ": " + ", ".join(f"{claim.id} {plain(claim.processor_class)}" for claim in claims)
