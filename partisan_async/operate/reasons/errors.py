"""The last of a task's errors, for a sentence that tells of it."""

from __future__ import annotations

from partisan_async.models import Task, readable
from partisan_async.operate.ways_out import WaysOut
from partisan_async.text.innermost import innermost


def last_class(task: Task) -> object:
    """Return the class of the last error; ``None``: unknown."""
    last = task.errors[-1] if isinstance(task.errors, list) and task.errors else None
    return last.get("exception_class") if isinstance(last, dict) else None


def last_error(task: Task, ways: WaysOut, *, postponed: bool = False) -> str:
    """Return the last error, or why the task postponed itself last; ``""``: there is none."""
    # A row may have been changed by hand.
    if not isinstance(task.errors, list):
        return "" if postponed or not task.errors else ways.text(readable.text(task.errors))
    for error in reversed(task.errors):
        if not isinstance(error, dict):
            return "" if postponed else ways.text(readable.text(error))
        if ("postponed" in error) is postponed:
            name, message = (
                readable.text(error.get(key)) for key in ("exception_class", "message")
            )
            place = "" if postponed else innermost(error.get("traceback"))
            return ways.error(name, message, place)
    return ""
