"""Notes when schedules last succeeded, and reads which of them are overdue.

A schedule is *overdue* if its tick is not taken though it is past, or if none of its tasks has
finished since the tick before the last one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from partisan_async.models.readable import seconds_since
from partisan_async.store.statement import Statement

SLACK_SECONDS = 60.0
"""Time that a tick, or a success, may be late before its schedule is overdue."""

# What somebody has locked, who may be making it another one, is noted later. In one order, or two
# supervisors could wait for each other.
_SUCCEEDED = """
WITH free AS MATERIALIZED (
    SELECT s.processor_class, statement_timestamp() - make_interval(secs => p.ago) AS at
    FROM partisan_async_schedule s
        JOIN unnest(%(keys)s::text[], %(agos)s::float8[]) AS p (key, ago)
            ON p.key = s.processor_class
    ORDER BY s.processor_class FOR UPDATE OF s SKIP LOCKED)
UPDATE partisan_async_schedule s
SET last_success = CASE WHEN s.last_success <= statement_timestamp()
    THEN GREATEST(s.last_success, free.at) ELSE free.at END
FROM free WHERE free.processor_class = s.processor_class
RETURNING s.processor_class
"""

_SLACK = f"interval '{SLACK_SECONDS:g} seconds'"

_IS_LATE = f"COALESCE(next_tick < statement_timestamp() - {_SLACK}, false)"

# Not of any time: a difference to one that is out of reach is an error.
_IS_FRUITLESS = f"""
CASE WHEN prior_tick > statement_timestamp() - interval '100 years' AND prior_tick < last_tick
    THEN last_success IS NULL OR last_success < prior_tick - {_SLACK} ELSE false END
"""

_PUNCTUALITY = f"""
SELECT processor_class, queue_name, COALESCE(processor, processor_class),
    {seconds_since("last_success")}, {seconds_since("next_tick")}, {seconds_since("prior_tick")},
    {_IS_LATE}, {_IS_FRUITLESS}
FROM partisan_async_schedule
WHERE enabled AND (arguments IS NOT NULL OR processor_class = ANY(%(keys)s))
    AND (%(queue_name)s::text IS NULL OR queue_name = %(queue_name)s)
ORDER BY {_IS_LATE} DESC, {_IS_FRUITLESS} DESC, processor_class LIMIT %(limit)s
"""  # noqa: S608


class Punctuality(NamedTuple):
    """How punctual a schedule is.

    :param success_seconds: for how long no task of it has finished; ``None``: none ever has.
    :param late_seconds: for how long its next tick has been due; ``None``: it is to be counted.
    :param fruitless_seconds: how long ago the tick before the last one was.
    :param is_late: nobody takes its tick.
    :param is_fruitless: its ticks are taken, and their tasks do not finish.
    """

    key: str
    queue_name: str
    processor: str
    success_seconds: float | None
    late_seconds: float | None
    fruitless_seconds: float | None
    is_late: bool
    is_fruitless: bool

    @property
    def is_overdue(self) -> bool:
        """Whether somebody has to look at it."""
        return self.is_late or self.is_fruitless


def succeeded(agos: Mapping[str, float]) -> Statement:
    """Note that tasks of schedules finished, so many seconds ago. Rows: the keys of those noted."""
    return Statement(_SUCCEEDED, {"keys": list(agos), "agos": list(agos.values())})


def punctuality(keys: Sequence[str], limit: int, queue_name: str | None = None) -> Statement:
    """Read how punctual schedules are that are switched on. Rows: ``Punctuality``, overdue first.

    :param keys: those that are in the code; the others are in none any more, but for those made at
        run time.
    :param queue_name: ``None``: of all queues.
    """
    return Statement(_PUNCTUALITY, {"keys": list(keys), "limit": limit, "queue_name": queue_name})
