"""Claims rows that wait for limits: how many may start now is counted under each limit's lock.

The lock is the row of the limit, and is taken by a statement of its own: a count in the statement
that locks would be older than the lock, since its snapshot is. Both are one transaction, READ
COMMITTED, and one message. A row in process *is* the slot that it occupies: nothing else is counted
up or down.

A *head* of a key is one of the rows that are next there. A *start* is a claim, at the time that it
counted with.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from partisan_async.claim import Claim
from partisan_async.models.status import Status
from partisan_async.store.among import ALL, Among
from partisan_async.store.claiming import COLUMNS, I_LIVE, NEXT_SEQ, claims
from partisan_async.store.rates import GRANULES, OF_ALL, OF_KEY, granule, rate
from partisan_async.store.statement import Locking, Statement, array, array_of_texts

Key = tuple[str, str | None]
"""A limit's name, and a key under it; ``None``: the rows without one."""

KEYS_AT_ONCE = 100
"""Maximum number of keys that one claim looks at."""

IDLE_MILLISECONDS = 2000
"""How long the server waits for the rest, where a network breaks in the middle."""

MOST_OF_ALL = "COALESCE(whole.running, l.running)"
"""SQL of how many run at once under ``l``, an operator's number first; ``NULL``: any number."""

MOST_OF_KEY = """
CASE WHEN l.in_order THEN LEAST(1, own.running) ELSE COALESCE(own.running, l.running_per_key) END
"""
"""Likewise, of a key."""

# Whatever has become of the row: if another supervisor was told of it, too, and has started it, it
# stands for others of its key and of its limit.
ASKED = """
SELECT limit_name AS name, limit_key AS key FROM partisan_async_task
WHERE id = ANY(%(ids)s::bigint[]) AND limit_name IS NOT NULL AND queue_name = %(queue_name)s
"""

# The names of the locked ones are left for the next statement: those of ids may be others by then.
_LOCK = f"""
WITH held AS MATERIALIZED (
    SELECT name FROM partisan_async_limit
    WHERE ranked AND name = ANY (ARRAY(
        SELECT unnest(%(names)s::text[]) UNION SELECT name FROM ({ASKED}) AS asked))
    ORDER BY name FOR UPDATE)
SELECT set_config('partisan_async.held', COALESCE(jsonb_agg(name)::text, '[]'), true),
    set_config('idle_in_transaction_session_timeout', '{IDLE_MILLISECONDS}', true)
FROM held
"""  # noqa: S608


def _is_shared(slots: str, taken: str, is_among: str) -> str:
    """Return SQL of whether no slots are left, and a task of another queue has one of them."""
    return f"""
    CASE WHEN {slots} <= COALESCE({taken}, 0) THEN EXISTS (
        SELECT 1 FROM partisan_async_task o
        WHERE o.limit_name = key.name AND {is_among} AND o.status = '{Status.IN_PROCESS}'
            AND o.queue_name <> %(queue_name)s) ELSE false END
    """  # noqa: S608


def _heads(is_of_key: str) -> str:
    return f"""
    SELECT key.n, key.name, key.room, key.running, key.in_order, key.at, h.*
    FROM key CROSS JOIN LATERAL (
        SELECT i.*, row_number() OVER () AS number FROM (
            SELECT t.id, t.priority, t.execute_after FROM partisan_async_task t
            WHERE t.status = '{Status.LIMITED}' AND t.queue_name = %(queue_name)s
                AND t.limit_name = key.name AND {is_of_key} AND (key.in_order OR (true {{others}}))
            ORDER BY t.limit_rank, t.id LIMIT key.most) AS i) AS h
    """  # noqa: S608


# Turns are in the order of the keys that are asked for, each one first that has fewer running. What
# is ready, or of another limit, comes between them by its id: as if each list waited in one line.
#
# One more than can be taken: what is left of a room is then none of the claim's own, and a key that
# others may start is not called full by who has no worker free.
#
# In order a head that is not due, locked or not to be taken closes its key: what left it out of the
# search would take the second.
_CLAIM = f"""
WITH {I_LIVE},
held AS MATERIALIZED (
    SELECT jsonb_array_elements_text(current_setting('partisan_async.held')::jsonb) AS name),
asked AS MATERIALIZED (
    SELECT name, key, row_number() OVER (ORDER BY min(n)) AS n FROM (
        SELECT u.* FROM unnest(%(names)s::text[], %(keys)s::text[])
            WITH ORDINALITY AS u (name, key, n)
        UNION ALL SELECT own.name, own.key, NULL FROM ({ASKED}) AS own) AS u
    GROUP BY name, key),
now AS MATERIALIZED (SELECT clock_timestamp() AS at),
want AS MATERIALIZED (
    SELECT a.n, a.name, a.key, l.rates, l.rates_per_key, now.at,
        l.in_order AND a.key IS NOT NULL AS in_order,
        {MOST_OF_ALL} AS total, CASE WHEN a.key IS NOT NULL THEN {MOST_OF_KEY} END AS per_key,
        (SELECT max(p.until) FROM partisan_async_limitpause p
         WHERE p.name = a.name AND p.key IS NOT DISTINCT FROM a.key AND p.until > now.at) AS pause
    FROM asked a JOIN held USING (name) JOIN partisan_async_limit l USING (name)
        CROSS JOIN now
        LEFT JOIN partisan_async_limitoverride whole ON whole.name = a.name AND whole.key IS NULL
        LEFT JOIN partisan_async_limitoverride own ON own.name = a.name AND own.key = a.key
    WHERE EXISTS (SELECT 1 FROM me)),
whole AS MATERIALIZED (
    SELECT w.name, rate.next, w.rates <> '[]' AS rated, slots.n AS slots,
        GREATEST(0, LEAST(%(limit)s::bigint + 1, rate.room, slots.n)) AS room
    FROM (SELECT DISTINCT name, rates, total, at FROM want) AS w
        CROSS JOIN LATERAL ({rate("w.rates", OF_ALL)}) AS rate
        CROSS JOIN LATERAL (
            SELECT w.total - count(*) AS n FROM partisan_async_task o
            WHERE w.total IS NOT NULL AND o.limit_name = w.name
                AND o.status = '{Status.IN_PROCESS}') AS slots),
key AS MATERIALIZED (
    SELECT w.n, w.name, w.key, w.in_order, w.at, r.n AS running, room.n AS room,
        w.per_key - r.n AS slots,
        w.rates_per_key <> '[]' AND w.key IS NOT NULL AS rated,
        GREATEST(rate.next, w.pause) AS next,
        GREATEST(1, CASE WHEN w.in_order THEN 1 ELSE LEAST(room.n,
            GREATEST(8, 5 * %(limit)s / 4 / GREATEST(1, (SELECT count(*) FROM want)))) END) AS most
    FROM want w
        CROSS JOIN LATERAL (
            SELECT count(*) AS n FROM partisan_async_task o
            WHERE w.per_key IS NOT NULL AND o.limit_name = w.name AND o.limit_key = w.key
                AND o.status = '{Status.IN_PROCESS}') AS r
        CROSS JOIN LATERAL ({rate("w.rates_per_key", OF_KEY)}) AS rate
        CROSS JOIN LATERAL (
            SELECT CASE WHEN w.pause IS NULL THEN GREATEST(0, LEAST(%(limit)s::bigint + 1,
                w.per_key - r.n, CASE WHEN w.key IS NOT NULL THEN rate.room END))
                ELSE 0 END AS n) AS room),
found AS MATERIALIZED (
    {_heads("t.limit_key = key.key")}
    UNION ALL {_heads("key.key IS NULL AND t.limit_key IS NULL")}),
pick AS MATERIALIZED (
    SELECT id, n FROM (
        SELECT r.id, r.n, r.priority, r.since, r.place FROM (
            SELECT f.id, f.n, f.name, f.priority, row_number() OVER in_turns AS place,
                max(f.id) OVER in_turns AS since
            FROM found f
            WHERE f.number <= f.room AND (NOT f.in_order OR f.execute_after <= f.at)
            WINDOW in_turns AS (
                PARTITION BY f.name ORDER BY f.priority, f.running + f.number, f.n, f.number)) AS r
            JOIN whole USING (name)
        WHERE r.place <= whole.room
        UNION ALL (
            SELECT NULL, NULL, t.priority, t.id, 0 FROM partisan_async_task t
            WHERE %(leaves_room)s AND t.status = '{Status.NEW}'
                AND t.queue_name = %(queue_name)s {{others}}
            ORDER BY t.priority, t.id LIMIT %(limit)s)) AS all_of_them
    ORDER BY priority, since, place LIMIT %(limit)s),
due AS MATERIALIZED (
    SELECT t.id, pick.n FROM pick JOIN partisan_async_task t ON t.id = ANY (ARRAY[pick.id])
    WHERE t.status || '' = '{Status.LIMITED}' {{others}} FOR UPDATE OF t SKIP LOCKED),
taken AS (
    UPDATE partisan_async_task t
    SET status = '{Status.IN_PROCESS}', claimed_by = %(me)s, {NEXT_SEQ},
        claimed_at = (SELECT at FROM want LIMIT 1)
    FROM due WHERE t.id = ANY (ARRAY[due.id])
    RETURNING due.n, t.limit_name AS name, t.limit_key AS key, {COLUMNS}),
spent AS (
    INSERT INTO partisan_async_limitstart AS s
        (name, of_key, key, per_seconds, granule, count, until)
    SELECT n.name, n.of_key, n.key, r.per, g.granule, n.n,
        to_timestamp((g.granule + {GRANULES} + 2) * r.per / {GRANULES})
    FROM (SELECT name, true AS of_key, key, count(*)::int AS n FROM taken
          WHERE key IS NOT NULL GROUP BY name, key
          UNION ALL SELECT name, false, NULL, count(*)::int FROM taken GROUP BY name) AS n
        JOIN (SELECT DISTINCT name, rates, rates_per_key, at FROM want) AS w USING (name)
        CROSS JOIN LATERAL (
            SELECT (e.value ->> 1)::float8 AS per FROM jsonb_array_elements(
                CASE WHEN n.of_key THEN w.rates_per_key ELSE w.rates END) AS e) AS r
        CROSS JOIN LATERAL (SELECT {granule("w.at", "r.per")} AS granule) AS g
    ORDER BY n.name, n.of_key, n.key, r.per
    ON CONFLICT (name, of_key, key, per_seconds, granule)
        DO UPDATE SET count = s.count + excluded.count),
verdict AS (
    SELECT key.name, key.key, key.room - COALESCE(t.n_of, 0) AS room,
        whole.room - COALESCE(a.n_of, 0) AS whole_room,
        LEAST(key.slots - COALESCE(t.n_of, 0), whole.slots - COALESCE(a.n_of, 0)) AS slots,
        COALESCE(f.n_of, 0) - COALESCE(t.n_of, 0) AS left, COALESCE(f.n_of, 0) >= key.most AS more,
        COALESCE(p.n_of, 0) > COALESCE(t.n_of, 0) AS stuck,
        {_is_shared("key.slots", "t.n_of", "o.limit_key = key.key")}
            OR {_is_shared("whole.slots", "a.n_of", "true")} AS shared,
        key.rated, whole.rated AS whole_rated,
        extract(epoch FROM GREATEST(key.next, f.due) - key.at)::float8 AS seconds,
        extract(epoch FROM whole.next - key.at)::float8 AS whole_seconds
    FROM key JOIN whole USING (name)
        LEFT JOIN (
            SELECT n, count(*) AS n_of,
                min(CASE WHEN in_order AND execute_after > at THEN execute_after END) AS due
            FROM found GROUP BY n) AS f USING (n)
        LEFT JOIN (SELECT n, count(*) AS n_of FROM pick WHERE n IS NOT NULL GROUP BY n) AS p
            USING (n)
        LEFT JOIN (SELECT n, count(*) AS n_of FROM taken GROUP BY n) AS t USING (n)
        LEFT JOIN (SELECT name, count(*) AS n_of FROM taken GROUP BY name) AS a
            ON a.name = key.name)
SELECT CASE WHEN row_number() OVER () = 1 THEN (
        SELECT jsonb_agg(jsonb_build_array(v.name, v.key, v.room, v.whole_room,
            v.slots, v.left, v.more, v.stuck, v.shared, v.rated, v.whole_rated, v.seconds,
            v.whole_seconds))
        FROM verdict v)::text END, taken.*
FROM (SELECT 1) AS one LEFT JOIN taken ON true
"""  # noqa: S608


class Verdict(NamedTuple):
    """What a claim found out about a key.

    :param room: how many more of it could have started; 0: it is full.
    :param whole_room: likewise, of all keys of its limit.
    :param slots: how many more may run at once; ``None``: any number.
    :param left: how many of the rows that were looked at still wait.
    :param more: whether others may wait behind these.
    :param stuck: whether a row that could have started is locked, or is not to be taken.
    :param shared: whether it is full by tasks of other queues, too.
    :param rated: whether rates hold for it.
    :param whole_rated: likewise, of all keys.
    :param seconds: until a rate, a pause or the head's own time allows the next; ``None``: nothing
        of these is in the way.
    :param whole_seconds: likewise, of the rates of all keys.
    """

    name: str
    key: str | None
    room: int
    whole_room: int
    slots: int | None
    left: int
    more: bool
    stuck: bool
    shared: bool
    rated: bool
    whole_rated: bool
    seconds: float | None
    whole_seconds: float | None

    @property
    def whose(self) -> Key:
        """The key that it is about."""
        return self.name, self.key


def claim_limited(
    me: UUID,
    queue_name: str,
    limit: int,
    ttl: timedelta,
    keys: Sequence[Key],
    ids: Sequence[int] = (),
    among: Among = ALL,
    *,
    leaves_room: bool = True,
) -> Locking:
    """Claim rows that wait for limits.

    For its rows, see ``outcome``.

    :param keys: whose rows may be claimed, at most ``KEYS_AT_ONCE``; the first one's turn is next.
    :param ids: rows whose keys are among these, too.
    :param leaves_room: whether to leave room for ready rows that come before them. Not where a
        claim of ready rows has just found no more: those that are seen are locked by others, or
        refused by the database, and would hold up for ever what waits for limits.
    """
    own = {"me": me, "limit": limit, "ttl": ttl, "leaves_room": leaves_room}
    lock = asking(queue_name, keys, ids)
    return Locking(Statement(_LOCK, lock), among.narrow(Statement(_CLAIM, lock | own), "t.id"))


def asking(queue_name: str, keys: Sequence[Key], ids: Sequence[int]) -> dict[str, Any]:
    """Return the parameters of which keys are asked for."""
    return {
        "queue_name": queue_name,
        "names": array_of_texts(name for name, _ in keys),
        "keys": array_of_texts(key for _, key in keys),
        "ids": array(ids),
    }


def outcome(rows: Iterable[Sequence[Any]]) -> tuple[list[Claim], list[Verdict]]:
    """Return the claims of a claim under limits, and what it found out about its keys."""
    verdicts: list[Verdict] = []
    taken = []
    for told, _, name, _, *columns in rows:
        if told is not None:
            verdicts = [Verdict(*each) for each in json.loads(told)]
        if name is not None:
            taken.append(columns)
    return claims(taken), verdicts
