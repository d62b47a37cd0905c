"""Looks at the server: what keeps dead rows from being vacuumed, and what is about to run out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

from partisan_async.models import ENDED
from partisan_async.models.status import WAITING_SQL
from partisan_async.operate import budget, overview
from partisan_async.operate.doctor.look import Said, ask, well, wrong
from partisan_async.settings import QueueSettings, queue_settings
from partisan_async.steering.pruning import ended_queues
from partisan_async.text.durations import in_words

OLD_SECONDS = 300.0
"""Maximum age of an open transaction that is well."""

QUEUE_USE = 0.1
"""Maximum share of the notification queue in use that is well. The queue holds gigabytes."""

CONNECTIONS_USE = 0.9

OLD_IDS = 500_000_000
"""Autovacuum freezes rows from 200 million on; at 2,000 million the server stops writing."""

SKEW_SECONDS = 2.0

AHEAD = timedelta(seconds=30)
"""Maximum time that a row may be ahead of the database's clock."""

NAMED = 5


def snapshots() -> Iterator[Said]:
    """Report transactions that have been open for long, and who opened them."""
    found = ask(
        """
        SELECT pid, COALESCE(NULLIF(application_name, ''), backend_type), state,
            extract(epoch FROM clock_timestamp() - xact_start)::float8,
            backend_xmin IS NOT NULL OR backend_xid IS NOT NULL
        FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
            AND backend_type <> 'autovacuum worker' AND xact_start IS NOT NULL
        ORDER BY xact_start LIMIT %(limit)s
        """,
        limit=NAMED,
    )
    old = [row for row in found if row[3] > OLD_SECONDS]
    for pid, name, state, seconds, holds in old:
        what = "no row that died since can be vacuumed" if holds else "what it locked stays locked"
        yield wrong(
            f"Server process {pid} ({name!r}, {state}) has a transaction open for"
            f" {in_words(seconds)}, and {what}: end it there, or"
            f" SELECT pg_terminate_backend({pid})."
        )
    if not old:
        oldest = in_words(found[0][3]) if found else None
        yield well(f"the oldest is {oldest} old" if oldest else "none is open")


def prepared_transactions() -> Iterator[Said]:
    """Report transactions that were prepared long ago and never committed."""
    found = ask(
        """
        SELECT gid, extract(epoch FROM clock_timestamp() - prepared)::float8 FROM pg_prepared_xacts
        WHERE database = current_database() ORDER BY prepared
        """
    )
    old = [row for row in found if row[1] > OLD_SECONDS]
    for gid, seconds in old[:NAMED]:
        yield wrong(
            f"The transaction {gid!r} has been prepared for {in_words(seconds)}, and no row that"
            f" died since can be vacuumed: COMMIT PREPARED '{gid}', or ROLLBACK PREPARED."
        )
    if not old:
        yield well("none is old" if found else "none")


def replication_slots() -> Iterator[Said]:
    """Report slots that nobody reads."""
    found = ask("""
        SELECT slot_name, active,
            pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn))
        FROM pg_replication_slots ORDER BY slot_name
    """)
    idle = [row for row in found if not row[1]]
    for name, _, size in idle[:NAMED]:
        yield wrong(
            f"Nobody reads the replication slot {name!r}, and the server keeps {size or 'some'} of"
            " log for it, and maybe dead rows: start its reader, or SELECT"
            f" pg_drop_replication_slot('{name}')."
        )
    if not idle:
        yield well(f"{len(found)}, all read" if found else "none")


def notification_queue() -> Iterator[Said]:
    """Tell whether notifications are read."""
    ((use,),) = ask("SELECT pg_notification_queue_usage()")
    if use > QUEUE_USE:
        yield wrong(
            f"The notification queue is {use:.0%} full, and when it is full no NOTIFY is possible:"
            " a session that listens has a transaction open for long; end it, see the snapshots."
        )
    else:
        yield well(f"{use:.0%} of it is in use")


def connections() -> Iterator[Said]:
    """Tell whether the server has enough connections for the supervisors that are alive."""
    ((allowed, used),) = ask("""
        SELECT current_setting('max_connections')::int
            - current_setting('superuser_reserved_connections')::int
            - COALESCE(current_setting('reserved_connections', true), '0')::int,
            (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')
    """)
    wanted = 0
    alive = [each for each in overview.supervisors() if each.alive]
    hosts: dict[str, list[QueueSettings]] = {}
    for each in alive:
        settings = queue_settings(each.queue_name)
        hosts.setdefault(each.process, []).append(settings)
        grows = settings.most_workers > settings.least_workers
        workers = settings.most_workers if grows else len(each.workers) or settings.most_workers
        wanted += workers * budget.per_worker(each.queue_name, settings)
    wanted += sum(map(budget.of_host, hosts.values()))
    said = f"{used:,} of {allowed:,} are in use"
    if wanted > allowed:
        yield wrong(
            f"{len(alive):,} supervisor(s) that are alive may open up to {wanted:,} connections,"
            f" and the server allows {allowed:,} for all: raise max_connections, or lower"
            " WORKERS_COUNT or ASYNC_CONCURRENCY."
        )
    if used > CONNECTIONS_USE * allowed:
        yield wrong(
            f"{said[0].upper()}{said[1:]} of the server's connections: raise max_connections, or"
            " have fewer processes."
        )
    elif wanted <= allowed:
        yield well(f"{said}; supervisors may open up to {wanted:,}")


def transaction_ids() -> Iterator[Said]:
    """Tell whether the server is about to run out of transaction ids."""
    ((age,),) = ask("""
        SELECT GREATEST(age(datfrozenxid), mxid_age(datminmxid)) FROM pg_database
        WHERE datname = current_database()
    """)
    if age > OLD_IDS:
        yield wrong(
            f"The oldest transaction id is {age:,} transactions old, and at 2,000,000,000 the"
            " server stops writing: find what holds autovacuum back, see the snapshots, then VACUUM"
            " (FREEZE) as superuser."
        )
    else:
        yield well(f"the oldest is {age:,} transactions old")


def clock() -> Iterator[Said]:
    """Tell whether this host's clock agrees with the database's."""
    before = time.time()
    ((there,),) = ask("SELECT extract(epoch FROM clock_timestamp())::float8")
    after = time.time()
    skew = there - (before + after) / 2
    if abs(skew) > SKEW_SECONDS + (after - before) / 2:
        way = "behind" if skew > 0 else "ahead of"
        yield wrong(
            f"This host's clock is {in_words(abs(skew))} {way} the database's, so that tasks with"
            " an execute_after from here run at another time: have both use NTP."
        )
    else:
        yield well(f"within {SKEW_SECONDS:g} seconds of the database's")


def rows_ahead() -> Iterator[Said]:
    """Report rows that were written while the database's clock was ahead."""
    found = {
        "created_at": ask(
            f"""
            SELECT id FROM (
                SELECT id, created_at FROM partisan_async_task
                WHERE status IN {WAITING_SQL} LIMIT %(counted)s) AS t
            WHERE created_at > statement_timestamp() + %(slack)s ORDER BY id LIMIT %(limit)s
            """,  # noqa: S608
            slack=AHEAD,
            limit=NAMED,
            counted=overview.COUNTED,
        ),
        "claimed_at": ask(
            """
            SELECT id FROM partisan_async_task WHERE status = 'in_process'
                AND claimed_at > statement_timestamp() + %(slack)s ORDER BY id LIMIT %(limit)s
            """,
            slack=AHEAD,
            limit=NAMED,
        ),
        "finished_at": [row for name in ended_queues() for row in _ended_ahead(name)],
    }
    for column, rows in found.items():
        if rows:
            yield wrong(
                f"The database's clock was ahead when {column} was written of"
                f" {', '.join(str(pk) for (pk,) in rows[:NAMED])}: see to its NTP. They are told of"
                " and pruned by that time; what was enqueued by it may be due late: manage.py"
                " partisan run-now ID"
            )
    if not any(found.values()):
        yield well("none was written by a clock that was ahead")


def _ended_ahead(queue_name: str) -> list[tuple[int]]:
    sql = """
    SELECT id FROM partisan_async_task
    WHERE status IN ('finished', 'error') AND status = %(status)s AND queue_name = %(queue_name)s
        AND finished_at > statement_timestamp() + %(slack)s
    ORDER BY finished_at LIMIT %(limit)s
    """
    about = {"queue_name": queue_name, "slack": AHEAD, "limit": NAMED}
    return [row for status in ENDED for row in ask(sql, status=status, **about)]
