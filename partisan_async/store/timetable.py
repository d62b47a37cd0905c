"""Makes, changes and deletes the schedules that are in no code, and finds those that are due.

Each change gives the row another ``set_by``. So a supervisor that has seen the row as it was before
does not tick it as it is now.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from partisan_async.models.readable import moment
from partisan_async.store.statement import Statement

# Of a row that is there it changes nothing, and locks it: until the caller's transaction ends
# nobody else changes it, and no tick comes.
_HOLD = """
INSERT INTO partisan_async_schedule AS s
    (processor_class, queue_name, schedule, set_by, processor, arguments)
VALUES (%(key)s, %(queue_name)s, '', %(made_as)s, %(processor)s, %(arguments)s)
ON CONFLICT (processor_class) DO UPDATE SET processor_class = excluded.processor_class
"""

# In a statement of its own, by a clock that is later than the wait for the row.
_HELD = f"""
SELECT statement_timestamp(), schedule, {moment("next_tick")}, {moment("last_tick")}
FROM partisan_async_schedule WHERE processor_class = %(key)s
"""  # noqa: S608

_MAKE = """
UPDATE partisan_async_schedule SET queue_name = %(queue_name)s, schedule = %(schedule)s,
    next_tick = CASE WHEN enabled THEN %(next_tick)s::timestamptz END,
    set_by = %(made_as)s, processor = %(processor)s, arguments = %(arguments)s,
    rule = %(rule)s::jsonb, subject = %(subject)s, limit_key = %(limit_key)s,
    keyed_as = CASE WHEN %(is_keyed)s THEN %(made_as)s::uuid END
WHERE processor_class = %(key)s
"""

_FORGET = """
DELETE FROM partisan_async_schedule
WHERE processor_class = ANY(%(keys)s) AND arguments IS NOT NULL
RETURNING processor_class, queue_name
"""

# A release that knows no limits leaves the key as it is, and writes another set_by.
_COLUMNS = f"""
processor_class, statement_timestamp(), queue_name, schedule, enabled, {moment("next_tick")},
{moment("last_tick")}, false, set_by, processor, arguments, rule::text, subject,
limit_key, COALESCE(keyed_as = set_by, false)
"""

_SOONEST = f"""
SELECT {_COLUMNS} FROM partisan_async_schedule
WHERE queue_name = %(queue_name)s AND arguments IS NOT NULL AND enabled
    AND processor_class <> ALL(%(but)s)
ORDER BY next_tick NULLS FIRST, processor_class LIMIT %(limit)s
"""  # noqa: S608

_BEHIND = f"""
SELECT {_COLUMNS} FROM partisan_async_schedule
WHERE queue_name = %(queue_name)s AND arguments IS NOT NULL AND enabled
    AND processor_class > %(key)s
ORDER BY processor_class LIMIT %(limit)s
"""  # noqa: S608

_COUNT = """
UPDATE partisan_async_schedule SET next_tick = %(tick)s
WHERE processor_class = %(key)s AND set_by = %(made_as)s AND enabled AND next_tick IS NULL
RETURNING processor_class
"""


class Held(NamedTuple):
    """What a schedule was before a change, in a row that is held.

    :param now: the database's clock.
    :param schedule: empty: there was none of this key.
    """

    now: datetime.datetime
    schedule: str
    next_tick: datetime.datetime | None
    last_tick: datetime.datetime | None


class Made(NamedTuple):
    """A schedule made at run time.

    :param arguments: JSON of its call.
    :param rule: JSON of when it ticks.
    :param subject: whose its tasks are; ``None``: nobody's.
    :param limit_key: their key under the processor's limit.
    :param is_keyed: whether that was asked for.
    """

    key: str
    queue_name: str
    processor: str
    arguments: str
    schedule: str
    rule: str
    made_as: UUID
    subject: str | None = None
    limit_key: str | None = None
    is_keyed: bool = False


def hold(made: Made) -> Statement:
    """Keep the row of a schedule from all others, and make it first if need be. No rows."""
    return Statement(_HOLD, made._asdict())


def held_schedule(key: str) -> Statement:
    """Read a row that is held. Row: ``Held``."""
    return Statement(_HELD, {"key": key})


def make(made: Made, next_tick: datetime.datetime) -> Statement:
    """Have a row that is held be this schedule; whether it is switched on stays."""
    return Statement(_MAKE, made._asdict() | {"next_tick": next_tick})


def forget_schedules(keys: Sequence[str]) -> Statement:
    """Delete schedules made at run time. Rows: key and queue of each."""
    return Statement(_FORGET, {"keys": list(keys)})


def soonest(queue_name: str, but: Sequence[str], limit: int) -> Statement:
    """Read the schedules made at run time that are due next, those that are to be counted first.

    Rows: ``Scheduled``; then processor, arguments, the rule's JSON, the subject, the
    key, and whether that was asked for of this very call.

    :param but: the keys of those that are not wanted.
    """
    return Statement(_SOONEST, {"queue_name": queue_name, "but": list(but), "limit": limit})


def behind(queue_name: str, key: str, limit: int) -> Statement:
    """Read those that come after a key, by their keys; else as ``soonest``."""
    return Statement(_BEHIND, {"queue_name": queue_name, "key": key, "limit": limit})


def count_from(key: str, made_as: UUID, tick: datetime.datetime) -> Statement:
    """Set the first tick of one that was switched on, if nobody has. Rows: one, or none."""
    return Statement(_COUNT, {"key": key, "made_as": made_as, "tick": tick})
