"""Wakes open pages by NOTIFY: whoever changes something rings, in whatever process it runs."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import connection

CHANNEL = "gallery"
RECONNECT_SECONDS = 1.0


def ring() -> None:
    """Wake the pages that are open, wherever they are served."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])


class Bell:
    """What the open pages of this process wait for: one LISTEN, however many they are."""

    def __init__(self) -> None:
        self._pages: set[asyncio.Event] = set()
        self._listening: asyncio.Task[None] | None = None
        self.is_closed = False

    def close(self) -> None:
        """Wake them a last time: they are to end."""
        self.is_closed = True
        self._wake()

    def __len__(self) -> int:
        return len(self._pages)

    @contextmanager
    def heard(self) -> Iterator[asyncio.Event]:
        """Give a page an event that is set at each ring; whoever hears it clears it."""
        rung = asyncio.Event()
        self._pages.add(rung)
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen())
        try:
            yield rung
        finally:
            self._pages.remove(rung)
            if not self._pages:
                self._listening.cancel()
                self._listening = None

    async def _listen(self) -> None:
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(**_parameters()) as listener:
                    await listener.execute(f'LISTEN "{CHANNEL}"')
                    self._wake()  # what rang before is to be seen, too
                    async for _ in listener.notifies():
                        self._wake()
            except psycopg.OperationalError:  # the database restarts; meanwhile pages just look
                await asyncio.sleep(RECONNECT_SECONDS)

    def _wake(self) -> None:
        for rung in self._pages:
            rung.set()


def _parameters() -> dict[str, Any]:
    parameters: dict[str, Any] = connection.get_connection_params()
    for of_django in ("cursor_factory", "context"):
        parameters.pop(of_django, None)
    return parameters | {"autocommit": True}
