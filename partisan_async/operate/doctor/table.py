"""Looks at the table of the tasks: what is dead in it, and how claims find their way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.db import connections
from django.db.models import UniqueConstraint

from partisan_async import settings, store
from partisan_async.models import Task
from partisan_async.operate import overview
from partisan_async.operate.doctor.look import Said, ask, well, wrong
from partisan_async.settings import DEFAULT_QUEUE_NAME
from partisan_async.text.durations import in_words

DEAD_ROWS = 20_000
"""Claims walk over what is dead, and so many cost as much as the claim."""

VACUUMED_SECONDS = 300.0
"""Under load the table is vacuumed about every minute."""

SMALL = 5_000
"""Of so few rows any plan is good."""

BLOAT_BYTES = 64 * 2**20
BLOAT_FACTOR = 4

USED_UP = 0.9

NAMED = 5

PRUNED_LATE_SECONDS = 3600.0
"""So long after they should have been, rows that are still there are told of."""


def dead_rows() -> Iterator[Said]:
    """Tell whether dead rows are cleaned away."""
    ((dead, since, server_on, table_off),) = ask("""
        SELECT s.n_dead_tup,
            extract(epoch FROM now() - GREATEST(s.last_vacuum, s.last_autovacuum))::float8,
            current_setting('autovacuum')::bool AND current_setting('track_counts')::bool,
            EXISTS (SELECT FROM pg_options_to_table(c.reloptions)
                    WHERE option_name = 'autovacuum_enabled' AND NOT option_value::bool)
        FROM pg_class c JOIN pg_stat_user_tables s ON s.relid = c.oid
        WHERE c.oid = 'partisan_async_task'::regclass
    """)
    vacuumed = "never vacuumed" if since is None else f"vacuumed {in_words(since)} ago"
    if not server_on:
        yield wrong(
            "The server's autovacuum or track_counts is off, so that dead rows stay, and claims get"
            " slower and slower: ALTER SYSTEM SET autovacuum = on, and pg_reload_conf()."
        )
    if table_off:
        yield wrong(
            "Autovacuum is off for the table, so that dead rows stay, and claims get slower and"
            " slower: ALTER TABLE partisan_async_task RESET (autovacuum_enabled)."
        )
    if dead > DEAD_ROWS and (since is None or since > VACUUMED_SECONDS):
        yield wrong(
            f"{dead:,} dead rows are in the table, {vacuumed}, and claims walk over them: VACUUM"
            " partisan_async_task, and if that does not help, see the snapshots below."
        )
    elif server_on and not table_off:
        yield well(f"{dead:,}; {vacuumed}")


def claim_plan() -> Iterator[Said]:
    """Tell whether a claim reads the index that was made for it, and no more."""
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
    """Tell whether all indexes are there, and valid."""
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


def bloat() -> Iterator[Said]:
    """Tell whether the table is much larger than what is in it."""
    ((size, rows, width),) = ask("""
        SELECT pg_relation_size(c.oid),
            GREATEST(c.reltuples, pg_stat_get_live_tuples(c.oid))::float8,
            (SELECT sum(avg_width)::float8 FROM pg_stats
             WHERE tablename = c.relname AND schemaname = c.relnamespace::regnamespace::text)
        FROM pg_class c WHERE c.oid = 'partisan_async_task'::regclass
    """)
    # Headers, and a little for alignment; and of a table that was never analysed, a guess.
    needed = rows * ((width or 200) + 40)
    said = f"{size / 2**20:,.0f} MB for about {rows:,.0f} rows"
    if size > BLOAT_BYTES and size > BLOAT_FACTOR * needed:
        yield wrong(
            f"The table is {said}, which need {needed / 2**20:,.0f}: if it is not to grow as large"
            " again, run VACUUM FULL partisan_async_task while no supervisor runs, or pg_repack."
        )
    else:
        yield well(said)


def numbers() -> Iterator[Said]:
    """Tell whether there are numbers left for new tasks."""
    ((last, most),) = ask("""
        SELECT CASE WHEN has_sequence_privilege(s.seqrelid, 'USAGE, SELECT')
            THEN COALESCE(pg_sequence_last_value(s.seqrelid), 0) END, s.seqmax
        FROM pg_sequence s
        WHERE s.seqrelid = pg_get_serial_sequence('partisan_async_task', 'id')::regclass
    """)
    if last is None:
        yield wrong("The sequence of partisan_async_task cannot be read: see the rights.")
    elif last > USED_UP * most:
        yield wrong(
            f"The tasks' numbers come to their end, {last:,} of {most:,}: when no low numbers are"
            " left in the table, begin anew: ALTER SEQUENCE partisan_async_task_id_seq RESTART."
        )
    else:
        yield well(f"the last is {last:,}")


def sequences() -> Iterator[Said]:
    """Tell whether the next numbers are free, of tasks and of tallies."""
    behind = []
    for name in ("partisan_async_task", "partisan_async_tally"):
        ((sequence, last, most),) = ask(f"""
            SELECT s.name, CASE WHEN has_sequence_privilege(s.name, 'USAGE, SELECT')
                THEN COALESCE(pg_sequence_last_value(s.name::regclass), 0) END,
                COALESCE((SELECT max(id) FROM {name}), 0)
            FROM pg_get_serial_sequence('{name}', 'id') AS s (name)
        """)  # noqa: S608
        if last is None:
            behind.append(name)
            yield wrong(f"The sequence of {name} cannot be read: see the rights.")
        elif last < most:
            behind.append(name)
            mend = f"SELECT setval('{sequence}', (SELECT max(id) FROM {name}))"  # noqa: S608
            yield wrong(
                f"The sequence of {name} is at {last:,}, and its rows come to {most:,}, as after a"
                f" logical replication, so that inserts meet numbers that are taken: {mend}"
            )
    if not behind:
        yield well("none is behind its table")


def kept_rows() -> Iterator[Said]:
    """Tell of old rows that should have been deleted, and are kept by something of the site's."""
    found = False
    for name in settings.configured_queues():
        seconds = settings.queue_settings(name).KEEP_FINISHED_SECONDS
        if seconds is None:
            continue
        rows = ask(
            """
            SELECT id FROM partisan_async_task
            WHERE status IN ('finished', 'error') AND status = 'finished'
                AND queue_name = %(name)s AND finished_at < statement_timestamp() - %(age)s
            ORDER BY finished_at LIMIT %(limit)s
            """,
            name=name,
            age=timedelta(seconds=seconds + PRUNED_LATE_SECONDS),
            limit=NAMED,
        )
        if rows:
            found = True
            yield wrong(
                f"Rows of queue {name!r} should have been deleted, such as"
                f" {', '.join(str(pk) for (pk,) in rows)}: either no supervisor of it runs, or the"
                f" database keeps them{_referring()}; its log, or manage.py partisan prune, says"
                " why."
            )
    if not found:
        yield well("none that should have been deleted")


def _referring() -> str:
    rows = ask("""
        SELECT DISTINCT conrelid::regclass::text FROM pg_constraint
        WHERE contype = 'f' AND confrelid = 'partisan_async_task'::regclass ORDER BY 1
    """)
    names = ", ".join(name for (name,) in rows)
    return f", since {names} refer(s) to them" if names else ""
