"""A child as its parent sees it: how it is started, what it says, how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

from partisan_async import logs
from partisan_async.management.start_partisan.options import RELOAD_GRACE_SECONDS
from partisan_async.management.start_partisan.reload import tie
from partisan_async.management.start_partisan.reload.sight import Sight
from partisan_async.supervisor.workers.interpreter import stop_signals_blocked
from partisan_async.worker.handle import Handle, descriptor_of

END_SECONDS = RELOAD_GRACE_SECONDS + 15
"""Time that a child has to end; then it is killed."""

LAST_WORDS_SECONDS = 1

_LONGEST_LINE = 2**26


class Child:
    """One child: this command once more.

    :param on_loaded: called with what the child asks to watch.
    """

    def __init__(self, on_loaded: Callable[[Sight], None]) -> None:
        self.is_loaded = False
        """Whether it has imported the code."""
        self.was_up = False
        """Whether it was allowed to start its supervisor."""
        self._on_loaded = on_loaded
        self._writer: asyncio.StreamWriter | None = None
        self._is_told = False
        self._process, self._socket = _start()
        self._handle = Handle(self._process.pid, descriptor_of(self._process.pid))

    async def ended(self) -> int:
        """Listen to it until it has ended; return its exit code."""
        listening = asyncio.ensure_future(self._listen())
        try:
            code = await asyncio.to_thread(self._process.wait)
            # Its last words; a process that the project forked may keep the socket open.
            await asyncio.wait({listening}, timeout=LAST_WORDS_SECONDS)
            return code
        finally:
            self._handle.close()
            listening.cancel()
            await asyncio.wait({listening})

    def stop(self, *, at_once: bool = False) -> None:
        """Stop it: what it runs may end within its grace time, unless at once."""
        if not self.was_up:
            self._handle.signal(signal.SIGKILL)  # it runs no task, and may import for long
            return
        if not self._is_told:
            loop = asyncio.get_running_loop()
            loop.call_later(END_SECONDS, self._kill)
        if self._writer is not None and (at_once or not self._is_told):
            self._writer.write(tie.AT_ONCE if at_once else tie.STOP)
        self._is_told = True

    def _kill(self) -> None:
        if self._handle.signal(signal.SIGKILL):
            logs.reload.killed(END_SECONDS)

    async def _listen(self) -> None:
        reader, writer = await asyncio.open_connection(sock=self._socket, limit=_LONGEST_LINE)
        try:
            while line := await reader.readline():
                match line.split(maxsplit=1):
                    case [tie.LOADED, sight]:
                        self.is_loaded = True
                        self._on_loaded(Sight.decoded(sight))
                    case [tie.UP]:
                        self.was_up, self._writer = True, writer
                        writer.write(tie.GO)
        finally:
            writer.close()


def _start() -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair()
    with theirs:
        number = theirs.fileno()
        with stop_signals_blocked():  # else one of the terminal would show where it struck
            process = subprocess.Popen(  # noqa: S603  this very command
                [sys.executable, *sys.orig_argv[1:]],
                env=os.environ | {tie.VARIABLE: str(number)},
                pass_fds=[number],
            )
    return process, ours
