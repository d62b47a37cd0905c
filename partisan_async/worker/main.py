"""A worker process: runs the tasks that arrive on its feed, and reports each on its link.

It has three threads. The *main* thread reads the feed and runs sync tasks, one after the other. The
*loop* thread runs async tasks side by side. The *link* thread hands back unstarted tasks.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from functools import partial
from typing import NoReturn

from partisan_async import registry
from partisan_async.claim import Claim
from partisan_async.declared import is_async, time_limit
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.signals import tell, worker_started, worker_stopping
from partisan_async.worker import ending, sessions, wire
from partisan_async.worker.async_runs import AsyncRuns
from partisan_async.worker.executor import Executor
from partisan_async.worker.link import Link
from partisan_async.worker.setup import Setup
from partisan_async.worker.sync_runs import run_sync


class Worker:
    """This process, as a worker."""

    def __init__(self, feed: socket.socket, link: socket.socket, setup: Setup) -> None:
        self.feed = feed
        self.link = Link(link)
        self._executor = Executor(
            setup.supervisor_id, setup.settings, f"{socket.gethostname()}/{os.getpid()}"
        )
        self._async_runs = AsyncRuns(self._executor, self.link)
        self._claim_of = Claim._make
        self._ways: dict[str, tuple[bool, float | None]] = {}

    def tell_of_start(self) -> None:
        """Send ``worker_started``.

        Call it before the hello: then a receiver that blocks keeps no task waiting, and the
        supervisor gives up the start as any other.
        """
        tell(worker_started, "worker_started", None)
        # The receivers' queries belong to no task.
        sessions.tidy(sessions.close_all)

    def serve(self) -> NoReturn:
        """Run the tasks that arrive on the feed, then end this process in order."""
        self._run_all()
        ending.end(partial(tell, worker_stopping, "worker_stopping", None))

    def leave(self) -> None:
        """In a child that a task forked: close the parent's sockets."""
        for each in (self.feed, self.link.socket):
            with suppress(OSError):  # the task may have done so
                os.close(each.detach())

    def _run_all(self) -> None:
        """Run tasks; return when the supervisor tells this process to end in order."""
        with self.feed.makefile("rb") as feed:
            for batch in wire.unpack(feed):
                if not batch:
                    return
                self._run_batch(batch)
        os._exit(1)

    def _run_batch(self, batch: wire.Tasks) -> None:
        """Run sync tasks to their end; pass async tasks to the event loop."""
        frames = b""
        link, executor = self.link, self._executor
        sessions.tidy(sessions.close_old)
        for ticket, fields in batch:
            claim = self._claim_of(fields)
            runs_async, limit = self._way_of(claim.processor_class)
            if runs_async:
                self._async_runs.begin(ticket, claim, limit)
            elif link.start_sync(ticket, limit, frames):
                frames, overran = run_sync(executor, ticket, claim, limit)
                if overran:
                    # ``TaskTimeout`` may strike anywhere and leave locks or threads behind: hand
                    # back the rest of the batch.
                    link.hand_back_after(ticket, batch[-1][0], frames)
                    return
        if frames:
            link.send(frames)

    def _way_of(self, name: str) -> tuple[bool, float | None]:
        """Return whether a processor is async, and the time limit of its runs in seconds."""
        way = self._ways.get(name)
        if way is None:
            try:
                processor_class = registry.get(name)
            except ProcessorClassNotFound:
                return False, None  # not cached: rows may name any number of unknown processors
            limit = None
            with suppress(TypeError):  # the system check reports a wrong limit
                limit = time_limit(processor_class, self._executor.settings.DEFAULT_TIMEOUT_SECONDS)
            way = self._ways[name] = is_async(processor_class), limit
        return way
