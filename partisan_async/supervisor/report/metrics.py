"""Shows a supervisor's figures as Prometheus reads them; needs ``prometheus_client``.

They are put together when somebody asks: for each task nothing but the *figures* is kept. Of the
database it asks how deep the queue is, on a connection of its own, so that no beat and no claim
waits for a count; and seldom, however many ask.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from itertools import accumulate
from typing import NamedTuple

import psycopg
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from partisan_async import logs
from partisan_async.store import NEVER, Statement, is_parked
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.dispatcher import Dispatcher
from partisan_async.supervisor.lease import Lease
from partisan_async.supervisor.report.figures import BOUNDS, OUTCOMES, Figures, Spread
from partisan_async.supervisor.settler import Settler

FRESH_SECONDS = 5.0
"""So long what the database said is told again."""

MADE_EVERY_SECONDS = 1.0
"""So long the figures are told again as they are: for a thousand processors they are some 300 ms of
the event loop."""

OPENMETRICS = "application/openmetrics-text"

PATIENCE = timedelta(seconds=2)
"""So long the database may take to say it."""

COUNTED = 10_000
"""The queue's tasks are counted up to so many: a count of millions would cost more than it says."""

# The oldest of each priority stands first in the index, so it is found without reading the others.
_QUEUE = f"""
WITH RECURSIVE first AS (
    (SELECT priority, GREATEST(execute_after, created_at) AS due, 1 AS n
     FROM partisan_async_task WHERE status = 'new' AND queue_name = %(queue_name)s
     ORDER BY priority, id LIMIT 1)
    UNION ALL
    SELECT next.priority, next.due, n + 1 FROM first, LATERAL (
        SELECT priority, GREATEST(execute_after, created_at) AS due
        FROM partisan_async_task WHERE status = 'new' AND queue_name = %(queue_name)s
            AND priority > first.priority
        ORDER BY priority, id LIMIT 1) AS next
    WHERE n < 100)
SELECT
    (SELECT count(*) FROM (SELECT 1 FROM partisan_async_task
        WHERE status = 'new' AND queue_name = %(queue_name)s LIMIT {COUNTED}) AS counted),
    LEAST(far.scheduled, {COUNTED}), far.parked,
    (SELECT count(*) FROM (SELECT 1 FROM partisan_async_task
        WHERE status = 'in_process' AND queue_name = %(queue_name)s LIMIT {COUNTED}) AS counted),
    (SELECT CASE WHEN count(*) > 0 THEN extract(epoch FROM statement_timestamp() - LEAST(
            statement_timestamp(), GREATEST(min(due), statement_timestamp() - interval '10 years')))
        END::float8 FROM first)
FROM (
    SELECT count(*) FILTER (WHERE c.is_parked) AS parked,
        count(*) FILTER (WHERE NOT c.is_parked) AS scheduled
    FROM (
        (SELECT false AS is_parked FROM partisan_async_task
         WHERE status = 'scheduled' AND queue_name = %(queue_name)s
             AND execute_after < {NEVER} LIMIT {COUNTED})
        UNION ALL
        (SELECT {is_parked("t")} FROM partisan_async_task t
         WHERE t.status = 'scheduled' AND t.queue_name = %(queue_name)s
             AND t.execute_after >= {NEVER} LIMIT {COUNTED})) AS c) AS far
"""  # noqa: S608

_QUEUE_STATUSES = ("ready", "scheduled", "parked", "running")


class _Made(NamedTuple):
    at: float
    content_type: str
    text: bytes


class Metrics:
    """What one supervisor shows.

    :param proven: asked whether NOTIFY is proven to wake it; ``None``: it does not listen.
    """

    def __init__(
        self,
        alias: str,
        queue_name: str,
        workers: int,
        figures: Figures,
        lease: Lease,
        dispatcher: Dispatcher,
        settler: Settler,
        *,
        proven: Callable[[], bool] | None,
    ) -> None:
        self._queue_name = queue_name
        self._workers = workers
        self._figures = figures
        self._lease = lease
        self._dispatcher = dispatcher
        self._settler = settler
        self._proven = proven
        self._connection = Connection(alias, f"{queue_name} metrics", PATIENCE)
        self._asking = asyncio.Lock()
        self._asked_at: float | None = None
        # By whether it is OpenMetrics.
        self._made: dict[bool, _Made] = {}
        self._depth: tuple[int, int, int, int, float | None] | None = None
        # Not the library's global one: what a site's own code registers there is not ours to show.
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Collector(self._collect))

    async def show(self, accept: str) -> tuple[str, bytes]:
        """Return the figures, and before them their content type.

        :param accept: the header by which the client says which formats it reads.
        """
        is_open = OPENMETRICS in accept
        async with self._asking:
            await self._ask()
            made = self._made.get(is_open)
            if made is None or time.monotonic() - made.at >= MADE_EVERY_SECONDS:
                made = self._made[is_open] = self._make(is_open=is_open)
        return made.content_type, made.text

    def _make(self, *, is_open: bool) -> _Made:
        # Of what the header says besides nothing matters here, and it may be anything.
        wanted = f"{OPENMETRICS}; version=1.0.0" if is_open else ""
        encode, content_type = choose_encoder(wanted)
        text = encode(self._registry)
        return _Made(time.monotonic(), content_type, text)

    async def close(self) -> None:
        """Close its connection."""
        await self._connection.close()

    async def _ask(self) -> None:
        now = time.monotonic()
        if self._asked_at is not None and now - self._asked_at < FRESH_SECONDS:
            return
        statement = Statement(_QUEUE, {"queue_name": self._queue_name})
        try:
            (self._depth,) = await self._connection.execute(statement)
        except psycopg.Error as error:
            # Rather nothing than what was true before.
            self._depth = None
            logs.queues.not_counted(error)
        self._asked_at = time.monotonic()

    def _collect(self) -> Iterator[Metric]:
        yield from self._of_tasks()
        yield from self._of_supervisor()
        if self._depth is not None:
            yield from self._of_queue(self._depth)

    def _of_tasks(self) -> Iterator[Metric]:
        labels = ("queue", "processor")
        tasks = CounterMetricFamily(
            "partisan_tasks", "Runs by what became of them.", labels=(*labels, "outcome")
        )
        ran = HistogramMetricFamily(
            "partisan_run_seconds", "How long runs took.", labels=labels, unit="seconds"
        )
        waited = HistogramMetricFamily(
            "partisan_wait_seconds",
            "How long tasks had been due when they were claimed.",
            labels=labels,
            unit="seconds",
        )
        for name, row in self._figures.rows.items():
            own = (self._queue_name, name)
            for kind, outcome in OUTCOMES.items():
                tasks.add_metric((*own, outcome), row.outcomes[kind])
            for family, spread in ((ran, row.ran), (waited, row.waited)):
                family.add_metric(own, buckets=_buckets(spread), sum_value=spread.total)
        return iter((tasks, ran, waited))

    def _of_supervisor(self) -> Iterator[Metric]:
        dispatcher, pool = self._dispatcher, self._dispatcher.pool
        gauges: list[tuple[str, str, float]] = [
            ("workers", "Worker processes that are to be there.", self._workers),
            ("workers_up", "Worker processes that have started, and live.", pool.up),
            ("workers_busy", "Worker processes that run a task.", pool.busy),
            ("buffered_tasks", "Claimed tasks that wait for a worker here.", dispatcher.buffered),
            ("unwritten_outcomes", "Outcomes not written yet.", len(self._settler.claims())),
            ("lease_held", "Whether the last beat is young enough.", self._lease.held),
            ("queue_paused", "Whether the queue is paused.", dispatcher.is_paused),
            ("paused_processors", "Processors that are paused in it.", dispatcher.paused_count),
        ]
        if self._proven is not None:
            proven = self._proven()
            gauges.append(("notify_proven", "Whether NOTIFY is proven to wake it.", proven))
        for name, what, value in gauges:
            yield self._one(GaugeMetricFamily, name, what, value)
        for name, what, value in (
            ("worker_deaths", "Worker processes that died by themselves.", dispatcher.deaths),
            ("worker_kills", "Worker processes that were killed for a task.", dispatcher.kills),
            ("settle_retries", "Statements with outcomes that failed.", self._settler.retries),
            ("fenced", "Outcomes dropped, the claims being another's.", self._settler.fenced),
        ):
            yield self._one(CounterMetricFamily, name, what, value)

    def _of_queue(self, depth: tuple[int, int, int, int, float | None]) -> Iterator[Metric]:
        *counts, oldest = depth
        tasks = GaugeMetricFamily(
            "partisan_queue_tasks",
            f"Tasks of the queue, of all supervisors, counted up to {COUNTED}.",
            labels=("queue", "status"),
        )
        for status, count in zip(_QUEUE_STATUSES, counts, strict=True):
            tasks.add_metric((self._queue_name, status), float(count or 0))
        yield tasks
        name, what = "queue_oldest_seconds", "How long the oldest ready task has been due."
        yield self._one(GaugeMetricFamily, name, what, oldest or 0.0)

    def _one(
        self,
        family: type[GaugeMetricFamily] | type[CounterMetricFamily],
        name: str,
        what: str,
        value: float,
    ) -> Metric:
        metric = family(f"partisan_{name}", what, labels=("queue",))
        metric.add_metric((self._queue_name,), float(value))
        return metric


class _Collector(Collector):
    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return self._collect()


def _buckets(spread: Spread) -> list[tuple[str, float]]:
    bounds = [*map(str, BOUNDS), "+Inf"]
    return list(zip(bounds, map(float, accumulate(spread.counts)), strict=True))
