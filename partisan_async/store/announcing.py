"""Announces ended tasks to the processes that wait for them."""

from __future__ import annotations

from collections.abc import Sequence

from partisan_async.ends.channel import ENDS_CHANNEL
from partisan_async.store.statement import Statement

ENDS_TOLD_AT_ONCE = 300
"""Maximum number of ids in a payload. PostgreSQL limits a payload to 8,000 bytes."""


def announce(ids: Sequence[int]) -> Statement:
    """Notify waiting processes that these rows have ended. Payload: ids, separated by commas."""
    payloads = [
        ",".join(map(str, ids[start : start + ENDS_TOLD_AT_ONCE]))
        for start in range(0, len(ids), ENDS_TOLD_AT_ONCE)
    ]
    sql = """
    SELECT set_config('synchronous_commit', 'off', true), pg_notify(%(channel)s, payload)
    FROM unnest(%(payloads)s::text[]) AS p (payload)
    """
    return Statement(sql, {"channel": ENDS_CHANNEL, "payloads": payloads})
