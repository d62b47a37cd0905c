"""Shows a supervisor's figures as Prometheus reads them; needs ``prometheus_client``.

They are put together when somebody asks: for each task nothing is done but to count it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from partisan_async.store import Punctuality
from partisan_async.supervisor.report.families import Families
from partisan_async.supervisor.report.punctual import Punctual
from partisan_async.supervisor.report.queue_depth import Depth, QueueDepth

MADE_EVERY_SECONDS = 1.0
"""Time for which a page is shown again as it is: for a thousand processors, to make one takes some
300 ms of the event loop."""

OPENMETRICS = "application/openmetrics-text"


class _Made(NamedTuple):
    at: float
    content_type: str
    text: bytes


class Metrics:
    """The page of one supervisor."""

    def __init__(self, families: Families, depth: QueueDepth, punctual: Punctual) -> None:
        self._families = families
        self._queue_depth = depth
        self._punctual = punctual
        self._depth: Depth | None = None
        self._schedules: list[Punctuality] = []
        self._asking = asyncio.Lock()
        # By whether it is OpenMetrics.
        self._made: dict[bool, _Made] = {}
        # Not the library's global one: what a site's own code registers there is not ours to show.
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Collector(self._collect))

    async def show(self, accept: str) -> tuple[str, bytes]:
        """Return the figures, and before them their content type.

        :param accept: the header by which the client says which formats it reads.
        """
        is_open = OPENMETRICS in accept
        async with self._asking:
            self._depth = await self._queue_depth.ask()
            self._schedules = await self._punctual.ask()
            made = self._made.get(is_open)
            if made is None or time.monotonic() - made.at >= MADE_EVERY_SECONDS:
                made = self._made[is_open] = self._make(is_open=is_open)
        return made.content_type, made.text

    async def close(self) -> None:
        """Close the connection that it asks by."""
        await self._queue_depth.close()

    def _make(self, *, is_open: bool) -> _Made:
        # Of what the header says besides nothing matters here, and it may be anything.
        wanted = f"{OPENMETRICS}; version=1.0.0" if is_open else ""
        encode, content_type = choose_encoder(wanted)
        text = encode(self._registry)
        return _Made(time.monotonic(), content_type, text)

    def _collect(self) -> Iterator[Metric]:
        yield from self._families.of_tasks()
        yield from self._families.of_supervisor()
        if self._depth is not None:
            yield from self._families.of_queue(self._depth)
        if self._schedules:
            yield from self._families.of_schedules(self._schedules)


class _Collector(Collector):
    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return self._collect()
