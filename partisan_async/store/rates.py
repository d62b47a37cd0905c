"""Counts the starts under a limit by *granules*: hundredths of a rate's window.

A *start* is a claim, at the time that it counted with.
"""

from __future__ import annotations

GRANULES = 100
"""Granules in a window; one more is counted, since the first one is cut."""

OF_ALL, OF_KEY = "NOT s.of_key AND s.key IS NULL", "s.of_key AND s.key = w.key"
"""Which starts are counted: those of all keys of the limit, or those of the one in ``w``."""


def rate(rates: str, key: str) -> str:
    """Return SQL of how many more starts the rates allow now, and when the next is if none.

    What was counted up to a window ahead of the clock, before it was set back, counts as now.
    """
    return f"""
    SELECT min(r.most - s.n) AS room,
        max(CASE WHEN s.n >= r.most
            THEN to_timestamp((LEAST(s.first, r.now) + {GRANULES} + 1) * r.per / {GRANULES}) END
        ) AS next
    FROM (SELECT (e.value ->> 0)::bigint AS most, p.per, {granule("w.at", "p.per")} AS now
          FROM jsonb_array_elements({rates}) AS e
              CROSS JOIN LATERAL (SELECT (e.value ->> 1)::float8 AS per) AS p) AS r
    CROSS JOIN LATERAL (
        SELECT COALESCE(sum(s.count), 0)::bigint AS n, min(s.granule) AS first
        FROM partisan_async_limitstart s
        WHERE s.name = w.name AND {key} AND s.per_seconds = r.per
            AND s.granule BETWEEN r.now - {GRANULES} AND r.now + {GRANULES}) AS s
    """  # noqa: S608


def granule(at: str, per: str) -> str:
    """Return SQL of the granule of a time."""
    return f"floor(extract(epoch FROM {at})::float8 * {GRANULES} / {per})::bigint"
