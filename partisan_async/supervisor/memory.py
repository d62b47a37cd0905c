"""Looks how much memory this process and its children take, each its share of what they share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path

from partisan_async.supervisor.workers import forkserver

LOOK_EVERY_SECONDS = 30.0
"""Interval of the looks: the kernel counts the pages of a process, which takes longer the more it
has."""


class Memory:
    """What the processes took at the last look."""

    def __init__(self) -> None:
        self._bytes: dict[int, int | None] = {}
        self._new = asyncio.Event()
        """Set when somebody asks for a process that was not looked at."""

    def of(self, pid: int) -> int | None:
        """Return the bytes of a process; ``None``: not known yet, or the system does not tell."""
        if pid not in self._bytes:
            self._new.set()
        return self._bytes.get(pid)

    def of_host(self) -> int | None:
        """Return the bytes of this process and its forkserver; ``None`` as for ``of``."""
        own, server = self.of(os.getpid()), forkserver.pid()
        return None if own is None else own + (self._bytes.get(server or 0) or 0)

    async def keep(self, workers: Callable[[], Iterable[int]]) -> None:
        """Look for ever.

        :param workers: returns the pids of the workers.
        """
        while True:
            self._bytes = await self._look(workers, ())
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_SECONDS):
                    while True:
                        await self._new.wait()
                        self._bytes |= await self._look(workers, self._bytes)

    async def _look(
        self, workers: Callable[[], Iterable[int]], known: Collection[int]
    ) -> dict[int, int | None]:
        """Look at the processes that are not known."""
        self._new.clear()
        pids = {os.getpid(), *workers()}
        if (server := forkserver.pid()) is not None:
            pids.add(server)
        # In a thread: the kernel may have to wait for a process that changes its memory.
        return await asyncio.to_thread(_shares, pids.difference(known))


def _shares(pids: Iterable[int]) -> dict[int, int | None]:
    return {pid: _share(pid) for pid in pids}


def _share(pid: int) -> int | None:
    # Not its resident size: that has what workers share with their forkserver once for each.
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it is gone, is not ours to read, or the system has no such file
        return None
    found = next((line for line in lines if line.startswith("Pss:")), None)
    return None if found is None else int(found.split()[1]) * 1024
