"""Reads which rows wait for limits since a mark: somebody may have died before the NOTIFY of them.

It is a part of the beat. The *mark* is an id: rows behind it were enqueued later. An id is drawn
before its row is committed, so what is behind a mark is known when those transactions have ended
that were open when it was set.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from partisan_async.models.status import Status

LOOKED_AT_MOST = 20_000
"""Maximum number of rows behind the mark, of all kinds, that a beat looks at."""

KEYS_AT_MOST = 1000
"""Maximum number of keys with rows behind the mark that a beat tells of."""

_IDS = "pg_get_serial_sequence('partisan_async_task', 'id')::regclass"

# Where no row waits for a limit, nothing is looked at. Whether one does is asked in the order of
# the index: else the planner expects to find one early in a table of ended rows, and reads all of
# it. The rows behind the mark are found by their ids, whatever they are: else all limited rows
# would have to be read. Without the right to see the sequence there is no mark.
NEWCOMERS = f"""
(SELECT jsonb_build_array(
        CASE WHEN has_sequence_privilege({_IDS}, 'USAGE, SELECT')
            THEN COALESCE(pg_sequence_last_value({_IDS}), 0) END,
        pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
        pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
        (WITH behind AS MATERIALIZED (
            SELECT id, status, queue_name, limit_name, limit_key FROM partisan_async_task
            WHERE id > %(mark)s::bigint ORDER BY id LIMIT {LOOKED_AT_MOST})
         SELECT jsonb_build_array((SELECT count(*) FROM behind), ARRAY(
            SELECT max(id) FROM behind
            WHERE status = '{Status.LIMITED}' AND queue_name = %(queue_name)s
            GROUP BY limit_name, limit_key LIMIT {KEYS_AT_MOST}))))::text
 FROM (SELECT id FROM partisan_async_task
       WHERE status = '{Status.LIMITED}' AND queue_name = %(queue_name)s
       ORDER BY limit_name, limit_key, limit_rank, id LIMIT 1) AS any_row)
"""  # noqa: S608
"""SQL of a ``Behind`` as text; ``NULL``: no row waits for a limit."""


class Behind(NamedTuple):
    """What a beat saw behind a mark.

    :param last_id: the one that was drawn last; ``None``: that is not to be seen.
    :param oldest: the number of the oldest transaction that was open.
    :param following: the number of the next transaction.
    :param ids: of rows that wait for limits, the last one of each key.
    :param is_all: whether these are all of them.
    """

    last_id: int | None
    oldest: int
    following: int
    ids: list[int]
    is_all: bool


def newcomers(told: str | None) -> Behind | None:
    """Return what a beat saw; ``None``: no row waits for a limit."""
    if told is None:
        return None
    last_id, oldest, following, (looked_at, ids) = json.loads(told)
    is_all = looked_at < LOOKED_AT_MOST and len(ids) < KEYS_AT_MOST
    return Behind(last_id, oldest, following, ids, is_all)
