"""The supervisor's end of a link: the socket by which a worker process tells what it does.

Its end is how a process's death is seen. A task may write to it, too: what is no frame, or is about
a run that is not open, is garbage, and nothing is read after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterator
from contextlib import suppress
from typing import Protocol, cast

from partisan_async.worker import wire

END_SECONDS = 0.5
"""A process that died has its link end within this time, unless a child of it holds it."""

_OF_A_RUN = (wire.Started, wire.Done)


class Reader(Protocol):
    """Who is told what comes by a link."""

    def on_frames(self, frames: Iterator[wire.Frame]) -> None:
        """These came together."""

    def on_garbage(self) -> None:
        """Something came that the process never says."""

    def on_end(self) -> None:
        """Nothing more will come."""


class Link(asyncio.Protocol):
    """Reads frames.

    :param tickets: those of the runs that are open.
    """

    def __init__(self, reader: Reader, tickets: Container[int]) -> None:
        self.hello: wire.Hello | None = None
        """What the process said first."""
        self.ended = asyncio.Event()
        self._greeted = asyncio.Event()
        self._reader = reader
        self._tickets = tickets
        self._decoder: wire.Decoder | None = wire.Decoder()
        """``None`` after garbage."""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._reader.on_frames(self._understood(data))

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()
        self._greeted.set()
        self._reader.on_end()

    def greet(self, hello: wire.Hello) -> None:
        """Note the hello."""
        if not self._greeted.is_set():
            self.hello = hello
            self._greeted.set()

    async def wait_for_hello(self) -> wire.Hello | None:
        """Return the hello when it has come; ``None`` where the link ended before."""
        await self._greeted.wait()
        return self.hello

    async def wait_for_end(self) -> None:
        """Return when it has ended, or does not in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await self.ended.wait()

    def ask_back(self, upto: int) -> bool:
        """Ask for the tasks that have not started, up to a ticket; return whether it could be."""
        if self._transport is None or self._transport.is_closing():
            return False
        self._transport.write(wire.encode(wire.Revoke(upto)))
        return True

    def hang_up(self) -> None:
        """End it at once."""
        if self._transport is not None:
            self._transport.abort()

    def _understood(self, data: bytes) -> Iterator[wire.Frame]:
        if self._decoder is None:
            return
        tickets = self._tickets
        try:
            for frame in self._decoder.feed(data):
                if isinstance(frame, _OF_A_RUN) and frame[0] not in tickets:
                    raise ValueError(frame)
                yield frame
        except Exception:  # noqa: BLE001  it may be anything that JSON can say
            self._decoder = None
            self._reader.on_garbage()
