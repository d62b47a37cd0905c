"""The launch of a worker process: its sockets, the process itself, and its hello."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any

from partisan_async.supervisor.workers import forkserver
from partisan_async.supervisor.workers.child import Child
from partisan_async.supervisor.workers.feed import Feed
from partisan_async.supervisor.workers.link import Link
from partisan_async.worker.setup import Setup

HELLO_SECONDS = 60
"""Time that a worker has to say hello; then it is given up."""

BIRTH_SECONDS = 2.0
"""Maximum time that a stop waits for a process that is still being created."""


class WorkerStartError(RuntimeError):
    """A worker process could not be started; the message says why."""


class WorkerVanishedError(WorkerStartError):
    """A worker process ended while it started, and did not say why. A retry may succeed."""


class Launch:
    """The launch of one process."""

    def __init__(self, setup: Setup) -> None:
        self.child: Child | None = None
        """The process; ``None`` until it exists."""
        self._setup = setup
        self._making: asyncio.Future[Child] | None = None

    async def run(self, feed: Feed, link: Link) -> None:
        """Create the process, and return when it has said hello.

        :raises WorkerStartError: it reports that it cannot start, or does not report in time.
        :raises WorkerVanishedError: it ended before it reported, or could not be created.
        """
        try:
            await self._begin(feed, link)
        except OSError as error:  # also a limit of the system, such as on open files
            raise WorkerVanishedError(f"A worker process could not be started: {error}.") from error
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                hello = await link.wait_for_hello()
        except TimeoutError:
            raise WorkerStartError(
                f"A worker process did not report within {HELLO_SECONDS} s of its start."
            ) from None
        if hello is not None and hello.trouble:
            raise WorkerStartError(f"A worker process could not start: {hello.trouble}")
        if hello is None or link.ended.is_set():
            raise WorkerVanishedError("A worker process ended before it reported.")
        if hello.note:
            forkserver.warn_once(hello.note)

    async def finish(self) -> None:
        """Wait up to ``BIRTH_SECONDS`` for the process; then kill a server that still imports."""
        if self._making is not None:
            await let_finish(self._making)

    async def _begin(self, feed: Feed, link: Link) -> None:
        their_link = await _connect(link)
        with their_link:
            their_feed = await _connect(feed)
            with their_feed:
                feed.read_nothing()
                self.child = await self._make(their_feed, their_link)

    async def _make(self, feed: socket.socket, link: socket.socket) -> Child:
        # In a thread: a fork takes 10 ms, and the first one several hundred.
        self._making = making = asyncio.get_running_loop().run_in_executor(
            None, forkserver.start_worker, feed, link, self._setup
        )
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            # The thread cannot be cancelled: wait for the process, so that close() can end it.
            await self.finish()
            with suppress(Exception):
                self.child = await making
            raise


async def let_finish(making: asyncio.Future[Any]) -> None:
    """Wait up to ``BIRTH_SECONDS`` for a call of the forkserver's that runs in a thread.

    The thread cannot be cancelled, and the process would wait for it: so kill a server that still
    imports.
    """
    _, late = await asyncio.wait({making}, timeout=BIRTH_SECONDS)
    if late:
        forkserver.give_up_start()


async def _connect(protocol: asyncio.Protocol) -> socket.socket:
    """Give a protocol its end of a new pair of sockets; return the other end."""
    ours, theirs = socket.socketpair()
    try:
        await asyncio.get_running_loop().create_connection(lambda: protocol, sock=ours)
    except BaseException:
        theirs.close()
        raise
    return theirs
