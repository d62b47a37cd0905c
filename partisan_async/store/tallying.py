"""The tally: what each processor did in each minute, added up by the supervisors."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from partisan_async.store.statement import Statement

_COUNTED = ("finished", "failed", "retried", "postponed", "lost", "cancelled")
_SUMMED = ("run_seconds", "wait_seconds")
_GREATEST = ("longest_run_seconds", "longest_wait_seconds")

TALLY_COLUMNS = ("processor_class", *_COUNTED, *_SUMMED, *_GREATEST)
"""The columns that ``tally`` takes for each processor."""


MOST = 2**31 - 1
"""Greatest value of a count; adding more does not change it."""


def tally(queue_name: str, rows: Sequence[tuple[Any, ...]]) -> Statement:
    """Add to the tally of the current minute.

    :param rows: values of ``TALLY_COLUMNS``, one row per processor.
    """
    # Sorted, so that two supervisors lock rows in the same order and cannot deadlock.
    columns = zip(*sorted(rows), strict=True)
    params = dict(zip(TALLY_COLUMNS, map(list, columns), strict=True))
    arrays = ", ".join(
        f"%({name})s::{'text' if name == 'processor_class' else 'float8'}[]"
        for name in TALLY_COLUMNS
    )
    changes = [f"{name} = LEAST(t.{name}::bigint + excluded.{name}, {MOST})" for name in _COUNTED]
    changes += [f"{name} = t.{name} + excluded.{name}" for name in _SUMMED]
    changes += [f"{name} = GREATEST(t.{name}, excluded.{name})" for name in _GREATEST]
    names = ", ".join(TALLY_COLUMNS)
    sql = f"""
    INSERT INTO partisan_async_tally AS t (minute, queue_name, {names})
    SELECT date_trunc('minute', statement_timestamp()), %(queue_name)s, d.*
    FROM unnest({arrays}) AS d ({names})
    ON CONFLICT (minute, queue_name, processor_class) DO UPDATE SET {", ".join(changes)}
    """  # noqa: S608
    return Statement(sql, params | {"queue_name": queue_name})


def forget_tallies(older_than: timedelta) -> Statement:
    """Delete the tallies of minutes that are older than this."""
    sql = "DELETE FROM partisan_async_tally WHERE minute < statement_timestamp() - %(age)s"
    return Statement(sql, {"age": older_than})
