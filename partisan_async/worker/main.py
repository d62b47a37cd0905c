"""A worker process at work: runs the tasks that its feed brings, and tells of each by its link.

Three threads. The *main* thread reads the feed and runs sync tasks, one after the other. The *loop*
thread runs async tasks side by side. The *link* thread hands tasks back that have not started.
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

        Before the hello: a receiver that blocks is to keep no task, and is given up as any start.
        """
        tell(worker_started, "worker_started", None)
        # The receivers' queries belong to no task.
        sessions.tidy(sessions.close_all)

    def serve(self) -> NoReturn:
        """Run the tasks that the feed brings, then end this process in order."""
        self._run_all()
        ending.end(partial(tell, worker_stopping, "worker_stopping", None))

    def leave(self) -> None:
        """In a child that a task forked: close the parent's sockets."""
        for each in (self.feed, self.link.socket):
            with suppress(OSError):  # the task may have done so
                os.close(each.detach())

    def _run_all(self) -> None:
        """Run what comes, and return when the supervisor ends this process in order."""
        with self.feed.makefile("rb") as feed:
            for batch in wire.unpack(feed):
                if not batch:
                    return
                self._run_batch(batch)
        os._exit(1)

    def _run_batch(self, batch: wire.Tasks) -> None:
        """Run sync tasks to their end, async ones until they have started."""
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
                    # An error that came out of nowhere may have left locks and threads behind in
                    # this process: it starts no other.
                    link.hand_back_after(ticket, batch[-1][0], frames)
                    return
        if frames:
            link.send(frames)

    def _way_of(self, name: str) -> tuple[bool, float | None]:
        """Return whether a processor's runs are async, and the time limit of each in seconds."""
        way = self._ways.get(name)
        if way is None:
            try:
                processor_class = registry.get(name)
            except ProcessorClassNotFound:
                return False, None  # not kept: rows may name any number of them
            limit = None
            with suppress(TypeError):  # what is no limit, the system check tells of
                limit = time_limit(processor_class, self._executor.settings.DEFAULT_TIMEOUT_SECONDS)
            way = self._ways[name] = is_async(processor_class), limit
        return way
