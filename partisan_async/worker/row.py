"""Makes the row of a claim without a query, for processors and signals."""

from __future__ import annotations

import json
from typing import Any

from partisan_async import store
from partisan_async.claim import Claim
from partisan_async.models import Task
from partisan_async.text import moments


def _in_order(names: set[str]) -> list[str]:
    fields = Task._meta.concrete_fields  # noqa: SLF001  documented API in spite of its name
    return [field.attname for field in fields if field.attname in names]


_COLUMNS = _in_order({*Claim._fields, "status"})
_UNENDED = ("finished_at", "last_attempted_at", "result")
_COLUMNS_WITH_HISTORY = _in_order({*_COLUMNS, *store.HISTORY, *_UNENDED})


def row_of(claim: Claim, arguments: dict[str, Any] | None) -> Task:
    """Return the row of a claim. Columns that a claim lacks are deferred: read when used.

    :param arguments: the decoded arguments; ``None``: deferred, too.
    """
    fields = {**claim._asdict(), "arguments": arguments, "status": Task.STATUS_IN_PROCESS}
    columns = _COLUMNS
    alias = store.database()
    if claim.history is not None:
        created_at, started_at, worker_ids, errors = json.loads(claim.history)
        columns = _COLUMNS_WITH_HISTORY
        fields |= dict.fromkeys(_UNENDED) | {
            "created_at": moments.read(created_at, alias),
            "started_at": started_at and moments.read(started_at, alias),
            "worker_ids": worker_ids,
            "errors": errors,
        }
    if arguments is None:
        columns = [name for name in columns if name != "arguments"]
    return Task.from_db(alias, columns, [fields[name] for name in columns])
