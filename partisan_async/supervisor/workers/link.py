"""The supervisor's end of a link: the socket on which a worker process reports what it does.

The end of the link is taken for the death of the process. A task may write to the link, too: a line
that is no frame, or names a run that is not open, is *garbage*, and nothing is read after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterator
from contextlib import suppress
from typing import Protocol, cast

from partisan_async.worker import wire

END_SECONDS = 0.5
"""Time within which the link of a dead process ends, unless a child of it holds the socket."""

_OF_A_RUN = (wire.Started, wire.Done)


class Reader(Protocol):
    """Handles what arrives on a link."""

    def on_frames(self, frames: Iterator[wire.Frame]) -> None:
        """Handle frames that arrived together."""

    def on_garbage(self) -> None:
        """Handle data that no worker sends."""

    def on_end(self) -> None:
        """Handle the end of the link."""


class Link(asyncio.Protocol):
    """Reads frames.

    :param tickets: tickets of the open runs.
    """

    def __init__(self, reader: Reader, tickets: Container[int]) -> None:
        self.hello: wire.Hello | None = None
        """The first frame of the process; ``None`` until it arrives."""
        self.ended = asyncio.Event()
        self._greeted = asyncio.Event()
        self._reader = reader
        self._tickets = tickets
        self._decoder: wire.Decoder | None = wire.Decoder()
        """``None`` after garbage: nothing more is read."""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._reader.on_frames(self._frames_of(data))

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
        """Wait for the hello and return it; ``None`` if the link ended first."""
        await self._greeted.wait()
        return self.hello

    async def wait_for_end(self) -> None:
        """Wait until the link ends, at most ``END_SECONDS``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await self.ended.wait()

    def ask_back(self, upto: int) -> bool:
        """Ask for unstarted tasks up to this ticket; return ``False`` if the link is closed."""
        if self._transport is None or self._transport.is_closing():
            return False
        self._transport.write(wire.encode(wire.Revoke(upto)))
        return True

    def tell_stopping(self) -> None:
        """Tell the process that the supervisor is stopping, unless the link is closed."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(wire.encode(wire.Stopping()))

    def hang_up(self) -> None:
        """Close the link at once."""
        if self._transport is not None:
            self._transport.abort()

    def _frames_of(self, data: bytes) -> Iterator[wire.Frame]:
        if self._decoder is None:
            return
        tickets = self._tickets
        try:
            for frame in self._decoder.feed(data):
                if isinstance(frame, _OF_A_RUN) and frame[0] not in tickets:
                    raise ValueError(frame)
                yield frame
        except Exception:  # noqa: BLE001  a task may write any JSON
            self._decoder = None
            self._reader.on_garbage()
