"""The metric families: of tasks, of the supervisor, of the queue, of schedules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from partisan_async.store import Punctuality
from partisan_async.supervisor.dispatcher import Dispatcher
from partisan_async.supervisor.lease import Lease
from partisan_async.supervisor.memory import Memory
from partisan_async.supervisor.report.counts import BOUNDS, OUTCOMES, Counts, Spread
from partisan_async.supervisor.report.queue_depth import COUNTED, Depth
from partisan_async.supervisor.report.under_limits import UnderLimit
from partisan_async.supervisor.settler import Settler
from partisan_async.supervisor.wakeup import Wakeup


def of_host(memory_bytes: int) -> Metric:
    """Return the gauge of a process's own memory: it has no queue, for it may serve several."""
    what = "Memory of the supervisors' process and its forkserver, without workers."
    return GaugeMetricFamily("partisan_host_memory_bytes", what, value=memory_bytes)


class Families:
    """The metric families of one supervisor.

    :param workers: the configured number of worker processes.
    :param wakeup: ``None``: the supervisor does not listen.
    """

    def __init__(
        self,
        queue_name: str,
        workers: int,
        counts: Counts,
        lease: Lease,
        dispatcher: Dispatcher,
        settler: Settler,
        wakeup: Wakeup | None,
        memory: Memory,
    ) -> None:
        self._queue_name = queue_name
        self._workers = workers
        self._counts = counts
        self._lease = lease
        self._dispatcher = dispatcher
        self._settler = settler
        self._wakeup = wakeup
        self._memory = memory

    def of_tasks(self) -> Iterator[Metric]:
        """Yield the counts of tasks by outcome, and the histograms of their run and wait times."""
        labels = ("queue", "processor")
        tasks = CounterMetricFamily(
            "partisan_tasks", "Tasks by what became of them.", labels=(*labels, "outcome")
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
        for name, figures in self._counts.figures():
            own = (self._queue_name, name)
            for kind, outcome in OUTCOMES.items():
                tasks.add_metric((*own, outcome), figures.outcomes[kind])
            for family, spread in ((ran, figures.ran), (waited, figures.waited)):
                family.add_metric(own, buckets=_buckets(spread), sum_value=spread.total)
        return iter((tasks, ran, waited))

    def of_supervisor(self) -> Iterator[Metric]:
        """Yield the gauges and counters of the supervisor."""
        dispatcher, pool = self._dispatcher, self._dispatcher.pool
        pauses = dispatcher.pauses
        gauges: list[tuple[str, str, float]] = [
            ("workers", "Worker processes that are configured.", self._workers),
            ("workers_up", "Worker processes that have started, and live.", pool.up),
            ("workers_busy", "Worker processes that run a task.", pool.busy),
            ("buffered_tasks", "Claimed tasks that wait for a worker here.", dispatcher.buffered),
            ("unwritten_outcomes", "Outcomes not written yet.", len(self._settler.claims())),
            ("lease_held", "Whether the last beat is young enough.", self._lease.held),
            ("queue_paused", "Whether the queue is paused.", pauses.queue),
            ("paused_processors", "Processors that are paused in it.", len(pauses.processors)),
        ]
        if self._wakeup is not None:
            proven = self._wakeup.proven.is_set()
            gauges.append(("notify_proven", "Whether NOTIFY is proven to wake it.", proven))
        known = [taken for each in pool.pids() if (taken := self._memory.of(each)) is not None]
        if known:
            gauges.append(("workers_memory_bytes", "Memory of the worker processes.", sum(known)))
        for name, what, value in gauges:
            yield self._one(GaugeMetricFamily, name, what, value)
        for name, what, value in (
            ("worker_deaths", "Worker processes that died by themselves.", dispatcher.deaths),
            ("worker_kills", "Worker processes that were killed for a task.", dispatcher.kills),
            ("settle_retries", "Statements with outcomes that failed.", self._settler.retries),
            ("fenced", "Outcomes dropped because the claims were lost.", self._settler.fenced),
        ):
            yield self._one(CounterMetricFamily, name, what, value)

    def of_queue(self, depth: Depth) -> Iterator[Metric]:
        """Yield the depth of the queue."""
        *counts, oldest = depth
        tasks = GaugeMetricFamily(
            "partisan_queue_tasks",
            f"Tasks of the queue, of all supervisors, counted up to {COUNTED}.",
            labels=("queue", "status"),
        )
        statuses = ("ready", "scheduled", "parked", "limited", "running")
        for status, count in zip(statuses, counts, strict=True):
            tasks.add_metric((self._queue_name, status), float(count or 0))
        yield tasks
        name, what = "queue_oldest_seconds", "How long the oldest ready task has been due."
        yield self._one(GaugeMetricFamily, name, what, oldest or 0.0)

    def of_limits(self, limits: Iterable[UnderLimit]) -> Iterator[Metric]:
        """Yield the queue's tasks under each limit."""
        tasks = GaugeMetricFamily(
            "partisan_limit_tasks",
            f"Tasks of the queue under a limit, of all supervisors, counted up to {COUNTED}.",
            labels=("queue", "limit", "status"),
        )
        for name, waiting, running in limits:
            for status, count in (("waiting", waiting), ("running", running)):
                tasks.add_metric((self._queue_name, name, status), float(count))
        yield tasks

    def of_schedules(self, schedules: Iterable[Punctuality]) -> Iterator[Metric]:
        """Yield how punctual the queue's schedules are."""
        labels = ("queue", "schedule")
        success = GaugeMetricFamily(
            "partisan_schedule_success_seconds",
            "How long ago a task of the schedule last finished.",
            labels=labels,
        )
        overdue = GaugeMetricFamily(
            "partisan_schedule_overdue",
            "Whether its tick is not taken, or none of its tasks finishes.",
            labels=labels,
        )
        for each in schedules:
            own = (self._queue_name, each.key)
            if each.success_seconds is not None:
                success.add_metric(own, max(0.0, each.success_seconds))
            overdue.add_metric(own, float(each.is_overdue))
        return iter((success, overdue))

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


def _buckets(spread: Spread) -> list[tuple[str, float]]:
    bounds = [*map(str, BOUNDS), "+Inf"]
    return list(zip(bounds, map(float, accumulate(spread.counts)), strict=True))
