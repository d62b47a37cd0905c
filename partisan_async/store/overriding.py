"""Overrides what limits allow, ends that, and makes what waits for limits ready without them."""

from __future__ import annotations

from datetime import timedelta

from partisan_async.models.status import ENDED_SQL, Status
from partisan_async.store.statement import Statement, is_alive, queue_names

DISSOLVED_AT_ONCE = 1000
"""Maximum number of rows that one statement makes ready."""

_QUEUES = queue_names("names", f"status = '{Status.LIMITED}'")

# One row of each queue is enough: whoever claims it learns that its limit has room, and opens the
# other keys that it knows of. Of one key the first row says what there is to say.
_FIRST = f"""
WITH RECURSIVE {_QUEUES}
SELECT names.queue_name, first.id FROM names CROSS JOIN LATERAL (
    SELECT t.id FROM partisan_async_task t
    WHERE t.status = '{Status.LIMITED}' AND t.queue_name = names.queue_name
        AND t.limit_name = %(name)s {{of_key}}
    ORDER BY t.limit_key, t.limit_rank, t.id LIMIT 1) AS first
"""  # noqa: S608

# Without the limit: a row that has one and is claimed goes back to wait for it. One that is not due
# (in order such a row keeps its place) would start too soon as a ready one.
_DISSOLVE = f"""
UPDATE partisan_async_task
SET status = CASE WHEN execute_after > statement_timestamp() THEN '{Status.SCHEDULED}'
        ELSE '{Status.NEW}' END,
    limit_name = NULL, limit_key = NULL, limit_rank = NULL
WHERE id = ANY (ARRAY(
    SELECT id FROM partisan_async_task
    WHERE status = '{Status.LIMITED}' AND queue_name = %(queue_name)s {{of_limit}}
    ORDER BY queue_name, limit_name, limit_key, limit_rank, id
    LIMIT {DISSOLVED_AT_ONCE} FOR UPDATE SKIP LOCKED))
RETURNING id
"""  # noqa: S608


def override(name: str, key: str | None, running: int) -> Statement:
    """Allow so many at once in place of what the code says. Rows: the override's id, if it is new.

    :param key: the one key that it is for; ``None``: for all together.
    """
    sql = """
    INSERT INTO partisan_async_limitoverride AS o (name, key, running)
    VALUES (%(name)s, %(key)s, %(running)s)
    ON CONFLICT (name, key) DO UPDATE
    SET running = excluded.running, set_at = statement_timestamp()
    WHERE o.running <> excluded.running
    RETURNING id
    """
    return Statement(sql, {"name": name, "key": key, "running": running})


def clear_override(name: str, key: str | None) -> Statement:
    """Have the code's number hold again; else as ``override``. Rows: the id, if there was one."""
    sql = """
    DELETE FROM partisan_async_limitoverride
    WHERE name = %(name)s AND key IS NOT DISTINCT FROM %(key)s RETURNING id
    """
    return Statement(sql, {"name": name, "key": key})


def first_limited(name: str, key: str | None) -> Statement:
    """Read a row of each queue that waits for a limit. Rows: queue and id.

    :param key: of this key; ``None``: of any.
    """
    sql = _FIRST.format(of_key="" if key is None else "AND t.limit_key = %(key)s")
    return Statement(sql, {"name": name} | ({} if key is None else {"key": key}))


def limited_queues() -> Statement:
    """Read which queues have rows that wait for limits."""
    return Statement(f"WITH RECURSIVE {_QUEUES} SELECT queue_name FROM names", {})  # noqa: S608


def dissolve(queue_name: str, name: str | None) -> Statement:
    """Make some rows ready that wait for limits, without these. Rows: one for each.

    :param name: the one limit; ``None``: all of them.
    """
    sql = _DISSOLVE.format(of_limit="" if name is None else "AND limit_name = %(name)s")
    of_limit = {} if name is None else {"name": name}
    return Statement(sql, {"queue_name": queue_name} | of_limit)


def forget_limit(name: str, ttl: timedelta) -> Statement:
    """Delete what a limit allowed. Rows: its name, if nothing has it any more.

    A live supervisor may have written it, and a task that is not over would wait for ever.
    """
    sql = f"""
    DELETE FROM partisan_async_limit l WHERE name = %(name)s
        AND NOT EXISTS (SELECT 1 FROM partisan_async_supervisor s
                        WHERE s.id = l.set_by AND {is_alive("s")})
        AND NOT EXISTS (SELECT 1 FROM partisan_async_task t
                        WHERE t.status NOT IN {ENDED_SQL} AND t.limit_name = %(name)s)
    RETURNING name
    """  # noqa: S608
    return Statement(sql, {"name": name, "ttl": ttl})
