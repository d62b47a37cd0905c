"""Lines about a supervisor: its start and end, its lease, and how it is woken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from partisan_async.claim import Claim
from partisan_async.logs.about import about_all, listed, logger
from partisan_async.text.one_line import explain


def started(queue_name: str, workers: int | tuple[int, int], database: str, woken: str) -> None:
    """Say that a supervisor is up.

    :param workers: their number, or the fewest and the most.
    :param database: its database, in words.
    :param woken: what wakes it, in words.
    """
    logger.info(
        "started: queue %r, %s worker%s, database %s, woken %s",
        *(queue_name, _number(workers), "" if workers == 1 else "s", database, woken),
        extra={"event": "started", "queue_name": queue_name},
    )


def stopping(running: Sequence[Claim]) -> None:
    """Say that a supervisor stops, and which runs it waits for."""
    logger.info(
        "stopping: waiting for %d running task(s)%s",
        *(len(running), listed(running)),
        extra=about_all(running, "stopping"),
    )


def stopped(queue_name: str) -> None:
    """Say that a supervisor has stopped."""
    logger.info("stopped: queue %r", queue_name, extra={"event": "stopped"})


def once_over(queue_names: Sequence[str], ends: Mapping[str, int]) -> None:
    """Say what became of the tasks that a process ran which was to run only what there was."""
    told = ", ".join(f"{number} {outcome}" for outcome, number in sorted(ends.items()))
    logger.info(
        "once: %s, %d run%s%s",
        _queues(queue_names),
        *(sum(ends.values()), "" if sum(ends.values()) == 1 else "s", f": {told}" * bool(told)),
        extra={"event": "once over"},
    )


def not_at_home(error: BaseException) -> None:
    """Say that a supervisor stops because the database belongs to another home.

    That is no bug, so the line has no traceback.
    """
    logger.critical("stopping: %s", error, extra={"event": "not at home"})


def failed(error: BaseException) -> None:
    """Say that a supervisor stops because of an unexpected error."""
    logger.critical(
        "stopping: an unexpected error",
        exc_info=error,
        extra={"event": "supervisor failed"},
    )


def side_work_failed(what: str, again_seconds: float, error: BaseException) -> None:
    """Say that an unexpected error ended a loop that no task waits for."""
    logger.error(
        "%s failed by an unexpected error; it starts again in %g s",
        *(what, again_seconds),
        exc_info=error,
        extra={"event": "side work failed"},
    )


def row_stays(error: BaseException) -> None:
    """Say that a supervisor could not remove its own row at its end."""
    logger.warning(
        "this supervisor's row could not be removed: %s",
        explain(error),
        extra={"event": "own row not removed"},
    )


def rows_stay(error: BaseException) -> None:
    """Say that the rows of dead supervisors could not be removed."""
    logger.info(
        "rows of dead supervisors could not be removed: %s",
        explain(error),
        extra={"event": "rows not removed"},
    )


def odd_supervisor(supervisor_id: str) -> None:
    """Say that a supervisor's row cannot be read."""
    logger.warning(
        "supervisor %s: its row names its process in a way that cannot be read; its tasks are"
        " rescued only after its lease has expired",
        supervisor_id,
        extra={"event": "odd row", "supervisor_id": supervisor_id},
    )


def lease_lost(ttl_seconds: float) -> None:
    """Say that a supervisor starts nothing until it has beaten again."""
    logger.warning(
        "lease lost: no beat for %g s; nothing is started until the database answers,"
        " and other supervisors may run the tasks that run here, too",
        ttl_seconds,
        extra={"event": "lease lost"},
    )


def lease_regained() -> None:
    """Say that a supervisor has beaten again."""
    logger.warning(
        "lease regained: asking which claims are still ours", extra={"event": "lease regained"}
    )


def clock_jumped(by_seconds: float, ttl_seconds: float) -> None:
    """Say that the database's clock was set."""
    logger.warning(
        "the database's clock jumped by %+.0f s: no supervisor is taken for dead for %g s",
        *(by_seconds, ttl_seconds),
        extra={"event": "clock jumped"},
    )


def listening(queue_names: Sequence[str]) -> None:
    """Say that a probe has shown that NOTIFY comes through."""
    logger.info("listening: %s woken by NOTIFY", _are(queue_names), extra={"event": "listening"})


def polling(queue_names: Sequence[str], why: str) -> None:
    """Say that NOTIFY does not come through, or no longer."""
    logger.warning(
        "NOTIFY cannot be relied on (%s): %s polled meanwhile",
        *(why, _are(queue_names)),
        extra={"event": "polling"},
    )


def _are(queue_names: Sequence[str]) -> str:
    """Return ``queue 'a' is``, or ``queues 'a', 'b' are``."""
    return f"{_queues(queue_names)} {'is' if len(queue_names) == 1 else 'are'}"


def _number(workers: int | tuple[int, int]) -> str:
    return str(workers) if isinstance(workers, int) else "{} to {}".format(*workers)


def _queues(names: Sequence[str]) -> str:
    return f"queue{'' if len(names) == 1 else 's'} {', '.join(map(repr, names))}"
