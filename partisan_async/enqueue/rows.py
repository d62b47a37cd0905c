"""Makes the ``Task`` of an inserted row, as a query would read it."""

from __future__ import annotations

import datetime
from typing import Any

from django.db.models.base import ModelState

from partisan_async.claim import Call
from partisan_async.models import Task
from partisan_async.models.status import Status
from partisan_async.store.inserting import COLUMNS

_COUNTS = ("claim_seq", "tries", "postpones", "lost", "unrecognised", "interrupted")
_COLUMN_NAMES = [field.attname for field in COLUMNS]


class Rows:
    """Makes the tasks of calls that differ only in their arguments, their subjects, and their keys
    under their limit.

    The database sends back only what the caller does not know: all columns would take as long as
    the insert.
    """

    def __init__(
        self,
        alias: str,
        common: Call,
        status: str,
        created_at: datetime.datetime,
        execute_after: datetime.datetime | None,
    ) -> None:
        self._fields = dict.fromkeys(_COLUMN_NAMES) | {
            "queue_name": common.queue_name,
            "processor_class": common.processor_class,
            "priority": common.priority,
            "status": status,
            "created_at": created_at,
            "execute_after": execute_after or created_at,
            "traceparent": common.traceparent,
            "limit_name": common.limit_name,
            "limit_rank": common.limit_rank,
            "suspect": False,
            **dict.fromkeys(_COUNTS, 0),
        }
        self._alias = alias

    def of(
        self,
        pk: int,
        arguments: dict[str, Any],
        digest: bytes | None,
        subject: str | None,
        limit_key: str | None,
    ) -> Task:
        # Fill __dict__, as unpickling does: Model.__init__() would double the time for each task.
        task = Task.__new__(Task)
        task.__dict__ = fields = self._fields.copy()
        fields["_state"] = state = ModelState()
        state.adding, state.db = False, self._alias
        fields["id"], fields["arguments"], fields["digest"] = pk, arguments, digest
        fields["subject"], fields["limit_key"] = subject, limit_key
        fields["worker_ids"], fields["errors"] = [], []
        return task


def status_beside(call: Call, status: str) -> str:
    """Return the status of a call's row, inserted with others, one of which has this status."""
    if status == Status.SCHEDULED:
        return status
    return Status.NEW.value if call.limit_name is None else Status.LIMITED.value
