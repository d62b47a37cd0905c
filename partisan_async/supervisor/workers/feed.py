"""The supervisor's end of a feed: the socket that carries tasks to a worker process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from partisan_async.worker import wire


class Feed(asyncio.Protocol):
    """Writes tasks.

    :param on_end: called when the connection ends. Tasks of a failed write are lost.
    """

    def __init__(self, on_end: Callable[[], None]) -> None:
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.write = self._transport.write

    def read_nothing(self) -> None:
        """Stop reading: only a task could write to this socket."""
        assert self._transport is not None
        self._transport.pause_reading()

    def close(self, *, in_order: bool) -> None:
        """Close the feed after all is written.

        :param in_order: first tell the process to end.
        """
        if self._transport is not None:
            if in_order and not self._transport.is_closing():
                self.write(wire.END)
            self._transport.close()

    def hang_up(self) -> None:
        """Close the feed at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_end()
