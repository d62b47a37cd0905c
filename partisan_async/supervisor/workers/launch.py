"""The launch of a worker process: its sockets, the process itself, and its hello."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

from partisan_async.supervisor.workers import forkserver
from partisan_async.supervisor.workers.child import Child
from partisan_async.supervisor.workers.feed import Feed
from partisan_async.supervisor.workers.link import Link
from partisan_async.worker.setup import Setup

HELLO_SECONDS = 60
"""A worker that has not said hello by then is given up."""

BIRTH_SECONDS = 2.0
"""Maximum time that a stop waits for a process that is being made."""


class WorkerStartError(RuntimeError):
    """A worker process could not be started; the message says why."""


class WorkerVanishedError(WorkerStartError):
    """A worker process ended while it started, and did not say why: the next one may do better."""


class Launch:
    """The launch of one process."""

    def __init__(self, setup: Setup) -> None:
        self.child: Child | None = None
        """The process, once there is one."""
        self._setup = setup
        self._making: asyncio.Future[Child] | None = None

    async def run(self, feed: Feed, link: Link) -> None:
        """Make the process, and return when it has said hello.

        :raises WorkerStartError: it says that it could not start, or says nothing in time.
        :raises WorkerVanishedError: it ended before it said anything, or could not be made.
        """
        try:
            await self._begin(feed, link)
        except OSError as error:  # it may be a limit of the system's, too, such as of open files
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
        """Return when no thread makes the process any more, whatever the project's import does."""
        if self._making is not None:
            _, late = await asyncio.wait({self._making}, timeout=BIRTH_SECONDS)
            if late:
                forkserver.give_up_start()

    async def _begin(self, feed: Feed, link: Link) -> None:
        their_link = await _connect(link)
        with their_link:
            their_feed = await _connect(feed)
            with their_feed:
                feed.read_nothing()
                self.child = await self._make(their_feed, their_link)

    async def _make(self, feed: socket.socket, link: socket.socket) -> Child:
        # A fork takes 10 ms, and the first of all several hundred.
        self._making = making = asyncio.get_running_loop().run_in_executor(
            None, forkserver.start_worker, feed, link, self._setup
        )
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            # The thread goes on: wait for the process, so that it can be ended.
            await self.finish()
            with suppress(Exception):
                self.child = await making
            raise


async def _connect(protocol: asyncio.Protocol) -> socket.socket:
    """Give a protocol its end of a new pair of sockets; return the other end."""
    ours, theirs = socket.socketpair()
    try:
        await asyncio.get_running_loop().create_connection(lambda: protocol, sock=ours)
    except BaseException:
        theirs.close()
        raise
    return theirs
