"""Gives each record of the package's lines the fields ``event``, ``queue_name`` and
``supervisor_id``, in every process and thread.

Most records have their event and queue already. For the others the event is the beginning of the
line, and the queue is that of the run or of the supervisor that logs it.
"""

from __future__ import annotations

import logging
import re
from contextvars import ContextVar
from typing import NamedTuple

from partisan_async.context import current_task

LOGGERS = ("partisan_async", "partisan_async.worker")


class Serving(NamedTuple):
    """The supervisor that lines come from, and its queue."""

    queue_name: str | None
    supervisor_id: str | None


serving: ContextVar[Serving | None] = ContextVar("partisan_async_serving", default=None)
"""The supervisor that the calling code is part of, if a process has several."""

_here = Serving(None, None)


def serve_here(queue_name: str | None, supervisor_id: str | None) -> None:
    """Set the supervisor of this process, for threads: they do not inherit the context."""
    global _here
    _here = Serving(queue_name, supervisor_id)


class LineFilter(logging.Filter):
    """Lets every record pass, with all three fields."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields that the record lacks."""
        task, whose = current_task.get(), serving.get() or _here
        fields = vars(record)
        if not fields.get("event"):
            fields["event"] = _event(str(record.msg))
        if not fields.get("queue_name"):
            fields["queue_name"] = whose.queue_name if task is None else task.queue_name
        fields["supervisor_id"] = whose.supervisor_id
        return True


def _event(template: str) -> str:
    """Return the beginning of a line, without its values."""
    words = re.split(r"[:;.(]", re.sub(r"%\S*", "", template))[0]
    return " ".join(words.split()) or "said"


_filter = LineFilter()
for _name in LOGGERS:
    logging.getLogger(_name).addFilter(_filter)
