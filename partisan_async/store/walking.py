"""Finds the keys of rows that wait for limits, by a walk over their index; and their heads."""

from __future__ import annotations

from collections.abc import Sequence

from partisan_async.models.status import Status
from partisan_async.store.among import ALL, Among
from partisan_async.store.limiting import ASKED, Key, asking
from partisan_async.store.statement import Statement

WALKED_AT_ONCE = 1000
"""Maximum number of keys that one step of a walk finds."""

# From one key to the next by the index, however many rows a key has. Those without a key are behind
# the others of their limit.
_NEXT = f"""
SELECT n.name, n.key FROM (
    (SELECT t.limit_name AS name, t.limit_key AS key FROM partisan_async_task t
     WHERE t.status = '{Status.LIMITED}' AND t.queue_name = %(queue_name)s
         AND t.limit_name = walk.name AND t.limit_key > walk.key
     ORDER BY t.limit_key LIMIT 1)
    UNION ALL
    (SELECT t.limit_name, t.limit_key FROM partisan_async_task t
     WHERE t.status = '{Status.LIMITED}' AND t.queue_name = %(queue_name)s
         AND t.limit_name = walk.name AND t.limit_key IS NULL AND walk.key IS NOT NULL LIMIT 1)
    UNION ALL
    (SELECT t.limit_name, t.limit_key FROM partisan_async_task t
     WHERE t.status = '{Status.LIMITED}' AND t.queue_name = %(queue_name)s
         AND t.limit_name > walk.name
     ORDER BY t.limit_name, t.limit_key LIMIT 1)) AS n LIMIT 1
"""  # noqa: S608

_WALK = f"""
WITH RECURSIVE walk (name, key, step) AS (
    SELECT %(name)s::text, %(key)s::text COLLATE "C", 0
    UNION ALL
    SELECT next.name, next.key, step + 1 FROM walk CROSS JOIN LATERAL ({_NEXT}) AS next
    WHERE step < {WALKED_AT_ONCE})
SELECT name, key FROM walk WHERE step > 0
"""  # noqa: S608


_READ_HEADS = f"""
WITH asked AS MATERIALIZED (
    SELECT u.name, u.key FROM unnest(%(names)s::text[], %(keys)s::text[]) AS u (name, key)
    UNION {ASKED})
SELECT t.id FROM asked JOIN partisan_async_task t
    ON t.limit_name = asked.name AND t.limit_key IS NOT DISTINCT FROM asked.key
WHERE t.status = '{Status.LIMITED}' AND t.queue_name = %(queue_name)s {{others}}
ORDER BY t.limit_rank, t.id LIMIT %(limit)s
"""  # noqa: S608


def walk(queue_name: str, behind: Key | None = None) -> Statement:
    """Find keys with rows that wait for limits. Rows: name and key, in the order of the walk.

    :param behind: the last one of the step before; ``None``: from the first.
    """
    name, key = ("", None) if behind is None else behind
    return Statement(_WALK, {"queue_name": queue_name, "name": name, "key": key})


def heads(
    queue_name: str, limit: int, keys: Sequence[Key], ids: Sequence[int], among: Among = ALL
) -> Statement:
    """Read the ids of rows that ``claim_limited`` might take."""
    params = asking(queue_name, keys, ids) | {"limit": limit}
    return among.narrow(Statement(_READ_HEADS, params), "t.id")
