"""Gives each line of the package's what programs look for: ``event``, ``queue_name`` and
``supervisor_id``, whoever wrote it and wherever.

Most lines say their event and their queue themselves. For the others the event is what they begin
with, and the queue is that of the run or of the supervisor that they come from.
"""

from __future__ import annotations

import logging
import re
from contextvars import ContextVar
from typing import NamedTuple

from partisan_async.context import current_task

LOGGERS = ("partisan_async", "partisan_async.worker")


class Serving(NamedTuple):
    """Whose lines these are."""

    queue_name: str | None
    supervisor_id: str | None


serving: ContextVar[Serving | None] = ContextVar("partisan_async_serving", default=None)
"""The supervisor that the code which asks is part of, where a process has several."""

_here = Serving(None, None)


def serve_here(queue_name: str | None, supervisor_id: str | None) -> None:
    """Say whose this process is: for threads, which have no context of their own."""
    global _here
    _here = Serving(queue_name, supervisor_id)


class LineFilter(logging.Filter):
    """Lets every line pass, with all three fields."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add what the line does not say itself."""
        task, whose = current_task.get(), serving.get() or _here
        queue_name = whose.queue_name if task is None else task.queue_name
        for name, value in (
            ("event", getattr(record, "event", None) or _event(str(record.msg))),
            ("queue_name", getattr(record, "queue_name", None) or queue_name),
            ("supervisor_id", whose.supervisor_id),
        ):
            setattr(record, name, value)
        return True


def _event(template: str) -> str:
    """Return what a line begins with, without its values."""
    words = re.split(r"[:;.(]", re.sub(r"%\S*", "", template))[0]
    return " ".join(words.split()) or "said"


_filter = LineFilter()
for _name in LOGGERS:
    logging.getLogger(_name).addFilter(_filter)
