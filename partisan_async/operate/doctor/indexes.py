"""Looks at the indexes of the task table, and whether a claim uses the right one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.db import connections
from django.db.models import UniqueConstraint

from partisan_async import store
from partisan_async.models import Task
from partisan_async.operate import overview
from partisan_async.operate.doctor.look import Said, ask, well, wrong
from partisan_async.settings import DEFAULT_QUEUE_NAME

SMALL = 5_000
"""Below this number of rows any plan is good."""


def claim_plan() -> Iterator[Said]:
    """Tell whether a claim reads only the index that was made for it."""
    ((rows,),) = ask("SELECT reltuples FROM pg_class WHERE oid = 'partisan_async_task'::regclass")
    if rows < SMALL:
        yield well("any, the table is small")
        return
    fullest = max(overview.queues(SMALL), key=lambda each: each.ready, default=None)
    name = fullest.name if fullest else DEFAULT_QUEUE_NAME
    claim = store.claim(uuid4(), name, 10, timedelta(seconds=store.TTL_SECONDS))
    ((explained,),) = ask(f"EXPLAIN (FORMAT JSON) {claim.sql}", **claim.params)
    plan = json.loads(explained) if isinstance(explained, str) else explained
    nodes = list(_nodes(plan[0]["Plan"]))
    used = {node.get("Index Name") for node in nodes}
    read = any(
        node["Node Type"] == "Seq Scan" and node.get("Relation Name") == "partisan_async_task"
        for node in nodes
    )
    sorts = any("Sort" in node["Node Type"] for node in nodes)
    if read or sorts or "partisan_async_ready" not in used:
        how = "reads the whole table" if read else "sorts" if sorts else "uses another index"
        yield wrong(
            f"A claim in queue {name!r} {how}, and does not go by the index partisan_async_ready:"
            " ANALYZE partisan_async_task; if that does not help, see the indexes below."
        )
    else:
        yield well("by the index partisan_async_ready")


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def indexes() -> Iterator[Said]:
    """Tell whether all indexes exist and are valid."""
    found = dict(
        ask("""
        SELECT c.relname, i.indisvalid AND i.indisready
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        WHERE i.indrelid = 'partisan_async_task'::regclass
        """)
    )
    editor = connections[store.database()].schema_editor()
    unique = [each for each in Task._meta.constraints if isinstance(each, UniqueConstraint)]  # noqa: SLF001
    expected = [*Task._meta.indexes, *unique]  # noqa: SLF001
    for index in expected:
        if index.name not in found:
            made = str(index.create_sql(Task, editor)).replace(" INDEX ", " INDEX CONCURRENTLY ", 1)
            yield wrong(f"The index {index.name} is missing: {made}.")
    invalid = sorted(name for name, valid in found.items() if not valid)
    for name in invalid:
        yield wrong(f"The index {name} is not valid: REINDEX INDEX CONCURRENTLY {name}.")
    if not invalid and {index.name for index in expected} <= found.keys():
        yield well(f"{len(found)}, all valid")
