"""Renders the metrics of a process's supervisors for Prometheus; needs ``prometheus_client``.

They are rendered when a client asks; a task itself is only counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from partisan_async.store import Punctuality
from partisan_async.supervisor.memory import Memory
from partisan_async.supervisor.report.families import Families, of_host
from partisan_async.supervisor.report.punctual import Punctual
from partisan_async.supervisor.report.queue_depth import Depth, QueueDepth
from partisan_async.supervisor.report.under_limits import UnderLimit, UnderLimits

MADE_EVERY_SECONDS = 1.0
"""Time for which a page is reused: for 1,000 processors, rendering blocks the event loop for some
300 ms."""

OPENMETRICS = "application/openmetrics-text"


class _Made(NamedTuple):
    at: float
    content_type: str
    text: bytes


class Page:
    """What the metrics tell of one supervisor."""

    def __init__(
        self, families: Families, depth: QueueDepth, punctual: Punctual, limits: UnderLimits
    ) -> None:
        self._families = families
        self._queue_depth = depth
        self._punctual = punctual
        self._under_limits = limits
        self._depth: Depth | None = None
        self._schedules: list[Punctuality] = []
        self._limits: list[UnderLimit] = []

    async def ask(self) -> None:
        """Ask the database for what it tells of the queue."""
        self._depth = await self._queue_depth.ask()
        self._schedules = await self._punctual.ask()
        self._limits = await self._under_limits.ask()

    def metrics(self) -> Iterator[Metric]:
        """Yield its metrics."""
        yield from self._families.of_tasks()
        yield from self._families.of_supervisor()
        if self._depth is not None:
            yield from self._families.of_queue(self._depth)
        if self._schedules:
            yield from self._families.of_schedules(self._schedules)
        if self._limits:
            yield from self._families.of_limits(self._limits)


class Metrics:
    """The metrics of one process, of each queue by its label.

    :param pages: returns what there is to tell: of a queue that came up later, too.
    """

    def __init__(self, pages: Callable[[], Sequence[Page]], memory: Memory) -> None:
        self._pages = pages
        self._memory = memory
        self._asking = asyncio.Lock()
        # The latest page of each format; the key is True for OpenMetrics.
        self._made: dict[bool, _Made] = {}
        # Not the library's global registry: it may have metrics of the site's own code.
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Collector(self._collect))

    async def show(self, accept: str) -> tuple[str, bytes]:
        """Return the content type and the text of the page.

        :param accept: the client's ``Accept`` header.
        """
        is_open = OPENMETRICS in accept
        async with self._asking:
            for page in self._pages():
                await page.ask()
            made = self._made.get(is_open)
            if made is None or time.monotonic() - made.at >= MADE_EVERY_SECONDS:
                made = self._made[is_open] = self._make(is_open=is_open)
        return made.content_type, made.text

    def _make(self, *, is_open: bool) -> _Made:
        # Not the client's header itself: it may be anything, and nothing else in it matters.
        wanted = f"{OPENMETRICS}; version=1.0.0" if is_open else ""
        encode, content_type = choose_encoder(wanted)
        text = encode(self._registry)
        return _Made(time.monotonic(), content_type, text)

    def _collect(self) -> Iterable[Metric]:
        # A family is there once, with the samples of all queues.
        found: dict[str, Metric] = {}
        for page in self._pages():
            for metric in page.metrics():
                if (known := found.setdefault(metric.name, metric)) is not metric:
                    known.samples.extend(metric.samples)
        own = self._memory.of_host()
        of_process = [] if own is None else [of_host(own)]
        return [*found.values(), *of_process]


class _Collector(Collector):
    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return self._collect()
