"""Growth: what a claim takes, however many rows the table holds."""

from __future__ import annotations

from statistics import median

from tests.benchmarks.bench import QUICK, Bench

CLAIMS = 90
"""Of ten rows each: the first step has a thousand."""

TURNS = 5
"""So often that is done, each time on a new connection: the disk has its moods."""

SIZES = {
    "1k_waiting": ("new", 1_000),
    "100k_waiting": ("new", 99_000),
    "100k_scheduled": ("scheduled", 100_000),
    "3m_waiting": ("new", 2_900_000),
    "10m_finished": ("finished", 10_000_000),
}
"""Rows that come on top of those before; in a trial run, a hundredth of them."""

_INSERT = """
INSERT INTO partisan_async_task
    (queue_name, processor_class, arguments, status, priority, execute_after, finished_at)
SELECT 'default', 'Noop', '{"args": [1], "kwargs": {}}', %(status)s::text, 10,
    now() + CASE %(status)s::text WHEN 'scheduled' THEN interval '1 day' ELSE '0' END,
    CASE %(status)s::text WHEN 'finished' THEN now() END
FROM generate_series(1, %(count)s)
"""


def growth(bench: Bench, *, share: float) -> dict[str, float]:
    """Return the median time of a claim of ten rows, in milliseconds, as the table grows.

    What was claimed goes back to waiting before the next step, and the table is vacuumed; within a
    step the claims leave dead rows behind, as they do in production.
    """
    figures = {}
    with bench.connect() as connection:
        for name, (status, count) in SIZES.items():
            params = {"status": status, "count": count if share > QUICK else count // 100}
            connection.execute(_INSERT, params)
            connection.execute("VACUUM ANALYZE partisan_async_task")
            connection.execute("CHECKPOINT")
            claims = CLAIMS if share > QUICK else 1
            turns = [bench.call("claims", claims) for _ in range(TURNS)]
            figures[f"{name}_milliseconds"] = median(turns) * 1000
    return figures
