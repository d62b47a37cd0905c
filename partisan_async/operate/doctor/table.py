"""Looks at the task table: its dead rows, its size, and rows that should have been deleted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from partisan_async import settings
from partisan_async.models import Task
from partisan_async.operate.doctor.look import Said, ask, well, wrong
from partisan_async.text.durations import in_words

DEAD_ROWS = 20_000
"""Claims walk over dead rows; walking over this many costs as much as the claim itself."""

VACUUMED_SECONDS = 300.0
"""Under load the table is vacuumed about every minute."""

BLOAT_BYTES = 64 * 2**20

BLOAT_FACTOR = 4

NAMED = 5

PRUNED_LATE_SECONDS = 3600.0
"""Time after which rows are reported that should have been deleted."""


def dead_rows() -> Iterator[Said]:
    """Tell whether dead rows are vacuumed."""
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


def bloat() -> Iterator[Said]:
    """Tell whether the table is much larger than its rows."""
    ((size, rows, width),) = ask("""
        SELECT pg_relation_size(c.oid),
            GREATEST(c.reltuples, pg_stat_get_live_tuples(c.oid))::float8,
            (SELECT sum(avg_width)::float8 FROM pg_stats
             WHERE tablename = c.relname AND schemaname = c.relnamespace::regnamespace::text)
        FROM pg_class c WHERE c.oid = 'partisan_async_task'::regclass
    """)
    # 40 bytes for the header and alignment; 200 is a guess for a table never analysed.
    needed = rows * ((width or 200) + 40)
    said = f"{size / 2**20:,.0f} MB for about {rows:,.0f} rows"
    if size > BLOAT_BYTES and size > BLOAT_FACTOR * needed:
        yield wrong(
            f"The table is {said}, which need {needed / 2**20:,.0f}: if it is not to grow as large"
            " again, run VACUUM FULL partisan_async_task while no supervisor runs, or pg_repack."
        )
    else:
        yield well(said)


def kept_rows() -> Iterator[Said]:
    """Report rows that should have been deleted by now."""
    found = False
    for name, status, seconds in _kept():
        rows = ask(
            """
            SELECT id FROM partisan_async_task
            WHERE status IN ('finished', 'error') AND status = %(status)s
                AND queue_name = %(name)s AND finished_at < statement_timestamp() - %(age)s
            ORDER BY finished_at LIMIT %(limit)s
            """,
            name=name,
            status=status,
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


def _kept() -> Iterator[tuple[str, str, float]]:
    """Yield each queue with a status whose rows are deleted after so many seconds."""
    for name in settings.configured_queues():
        queue = settings.queue_settings(name)
        if queue.KEEP_FINISHED_SECONDS is not None:
            yield name, Task.STATUS_FINISHED, queue.KEEP_FINISHED_SECONDS
        if queue.KEEP_FAILED_SECONDS is not None:
            yield name, Task.STATUS_ERROR, queue.KEEP_FAILED_SECONDS


def _referring() -> str:
    rows = ask("""
        SELECT DISTINCT conrelid::regclass::text FROM pg_constraint
        WHERE contype = 'f' AND confrelid = 'partisan_async_task'::regclass ORDER BY 1
    """)
    names = ", ".join(name for (name,) in rows)
    return f", since {names} refer(s) to them" if names else ""
