"""A worker process as its supervisor sees it, forked or cold; and how a fresh interpreter starts.

A *forked* worker is the forkserver's child, which tells of it on a socket; a *cold* one is this
process's own.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from partisan_async.supervisor import STOP_SIGNALS, birth, origin

LOOK_EVERY_SECONDS = 0.02


class Child(Protocol):
    """A worker process."""

    pid: int

    def signal(self, number: int) -> bool:
        """Send it a signal; return whether it was still there."""

    def wait(self) -> int | None:
        """Wait for its end; return its exit code, ``None`` where nobody knows it."""


class Forked:
    """A worker of the forkserver's.

    :param status: where the forkserver tells its exit code, and nothing if it dies itself.
    """

    def __init__(self, pid: int, status: socket.socket) -> None:
        self.pid = pid
        self._status = status
        self._has_ended = False

    def signal(self, number: int) -> bool:
        if self._has_ended:
            return False
        try:
            os.kill(self.pid, number)
        except (ProcessLookupError, PermissionError):  # it may be another's by now
            return False
        return True

    def wait(self) -> int | None:
        with self._status, suppress(OSError, ValueError):  # it may die in the midst of a word
            if code := read_line(self._status):
                self._has_ended = True
                return int(code)
        while not self._is_gone():
            time.sleep(LOOK_EVERY_SECONDS)
        return None

    def _is_gone(self) -> bool:
        with suppress(ChildProcessError):  # as process 1 of a container we inherit it
            os.waitpid(self.pid, os.WNOHANG)
        if not self.signal(0):
            return True
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] == "Z"  # nobody inherits it


class Cold:
    """A worker that inherits nothing."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.pid = process.pid
        self._process = process

    def signal(self, number: int) -> bool:
        if self._process.poll() is not None:
            return False
        self._process.send_signal(number)
        return True

    def wait(self) -> int | None:
        return self._process.wait()


def start_cold(feed: socket.socket, link: socket.socket, setup: bytes) -> Cold:
    """Start a worker in an interpreter of its own."""
    process, control = spawn(birth.cold.__name__, feed, link)
    with control:
        birth.send(control, setup, [])
    return Cold(process)


def spawn(what: str, *passed: socket.socket) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a fresh interpreter with a program of ``birth``; return it, and the way to it."""
    started = origin.of_this_process()
    ours, theirs = socket.socketpair()
    with theirs:
        fds = [each.fileno() for each in (theirs, *passed)]
        # The path first: -c puts the current folder on it, where anything may lie.
        code = (
            f"import sys; sys.path[:] = {started.path!r};"
            f" from partisan_async.supervisor import birth; birth.{what}(*{fds})"
        )
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001
        command = [sys.executable, *flags, "-c", code]
        try:
            with _signals_kept_off():
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=fds)  # noqa: S603  this interpreter
        except OSError:
            ours.close()
            raise
    with suppress(OSError):  # it has ended already, and is found to have
        birth.send(ours, json.dumps(started).encode(), [])
    return process, ours


def read_line(status: socket.socket) -> str:
    """Return the next line, or nothing at the end."""
    line = b""
    while not line.endswith(b"\n") and (piece := status.recv(1)):
        line += piece
    return line.decode().strip()


@contextmanager
def _signals_kept_off() -> Iterator[None]:
    # A new process inherits it: until it has seen to them, they would end it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
