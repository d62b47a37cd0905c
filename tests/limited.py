"""Rows with limits, and supervisors' connections that claim them, for tests of the statements."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from django.db import connection
from django.utils import timezone

from partisan_async import store
from partisan_async.models import Limit, Task
from partisan_async.store import ALL
from partisan_async.supervisor.connection import READ_COMMITTED
from tests.test_races import TTL, Other


def limit(name: str = "x", **numbers: Any) -> Limit:
    """Write what a limit allows, as the code of a supervisor would."""
    made, _ = Limit.objects.update_or_create(name=name, defaults={"set_by": uuid.uuid4()} | numbers)
    return made


def row(key: str | None = "k", name: str = "x", **columns: Any) -> Task:
    """Insert a task that waits for a limit."""
    values = {
        "queue_name": "default",
        "processor_class": "Nothing",
        "arguments": {"args": [], "kwargs": {}},
        "priority": 10,
        "execute_after": timezone.now(),
        "status": Task.STATUS_LIMITED,
        "limit_name": name,
        "limit_key": key,
    } | columns
    values.setdefault("limit_rank", values["priority"])
    return Task.objects.create(**values)


class Limited(Other):
    """A supervisor that claims under limits."""

    def __init__(self, queue_name: str = "default") -> None:
        super().__init__(queue_name)
        self.connection.execute(
            "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off;"
            " SET enable_bitmapscan = off; SET enable_sort = off; SET jit = off"
        )
        self.queue_name = queue_name
        self.verdicts: dict[store.Key, store.Verdict] = {}

    def claim_limited(
        self,
        keys: Sequence[store.Key],
        limit: int = 10,
        ids: Sequence[int] = (),
        among: store.Among = ALL,
    ) -> list[Any]:
        """Claim, as a supervisor does: in one transaction, and one message."""
        locks, claims = store.claim_limited(
            self.me, self.queue_name, limit, TTL, keys, ids, among=among
        )
        with self.connection.pipeline():
            with self.connection.transaction():
                self.connection.execute(READ_COMMITTED)
                self.connection.execute(*locks)
                cursor = self.connection.execute(*claims)
            found, verdicts = store.outcome(cursor.fetchall())
        self.verdicts = {(each.name, each.key): each for each in verdicts}
        return found


def ids(claims: Sequence[Any]) -> list[int]:
    return [claim.id for claim in claims]


def execute(sql: str, params: Any = None) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall() if cursor.description else []
