"""Says why one task does not run, or what became of it. Only reads."""

from __future__ import annotations

from collections.abc import Iterator

from partisan_async.models import ENDED, Task
from partisan_async.operate.reasons.ended import why_failed, why_finished
from partisan_async.operate.reasons.missing import why_missing
from partisan_async.operate.reasons.on_error import on_error
from partisan_async.operate.reasons.running import who_runs
from partisan_async.operate.reasons.turn import COUNTED
from partisan_async.operate.reasons.twins import twin
from partisan_async.operate.reasons.waiting import why_waiting
from partisan_async.operate.ways_out import COMMANDS, WaysOut
from partisan_async.steering import home

__all__ = ["COUNTED", "why", "why_missing"]


def why(task: Task, ways: WaysOut = COMMANDS) -> list[str]:
    """Return sentences that say why a task does not run, or what it does.

    :param ways: what the reader of the sentences can do about it, and may see.
    """
    match task.status:
        case Task.STATUS_FINISHED:
            said = why_finished(task, ways)
        case Task.STATUS_ERROR:
            said = why_failed(task, ways)
        case Task.STATUS_IN_PROCESS:
            said = who_runs(task, ways)
        case _:
            said = why_waiting(task, ways)
    return [*_not_at_home(task), *said, *on_error(task), *twin(task)]


def _not_at_home(task: Task) -> Iterator[str]:
    """Say first that no supervisor starts on this copy: other reasons matter little then."""
    kept = None if task.status in ENDED else home.kept()
    if kept is not None and (told := home.refusal(home.here(), kept)):
        yield told
