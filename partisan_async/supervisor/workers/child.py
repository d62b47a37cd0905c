"""A worker process as the operating system has it: its id, signals to it, and its exit code.

A *forked* worker is the forkserver's child, which tells of it on a socket; a *cold* one is this
process's own.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from partisan_async.supervisor.workers.interpreter import spawn
from partisan_async.worker import birth, messages
from partisan_async.worker.handle import Handle, descriptor_of

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
    :param descriptor: of the process, made before anybody could ask for its exit code.
    """

    def __init__(self, pid: int, status: socket.socket, descriptor: int | None) -> None:
        self.pid = pid
        self._status = status
        self._handle = Handle(pid, descriptor)
        self.signal = self._handle.signal

    def wait(self) -> int | None:
        try:
            return self._exit_code()
        finally:
            self._handle.close()

    def _exit_code(self) -> int | None:
        with self._status, suppress(OSError, ValueError):  # it may die in the midst of a word
            if code := read_line(self._status):
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
        # Popen's send_signal() may strike after the thread in wait() got the exit code.
        self._handle = Handle(self.pid, descriptor_of(self.pid))
        self.signal = self._handle.signal

    def wait(self) -> int | None:
        code = self._process.wait()
        self._handle.close()
        return code


def start_cold(feed: socket.socket, link: socket.socket, setup: bytes) -> Cold:
    """Start a worker in an interpreter of its own."""
    process, control = spawn(birth.cold.__name__, feed, link)
    with control:
        messages.send(control, setup, [])
    return Cold(process)


def read_line(status: socket.socket) -> str:
    """Return the next line, or nothing at the end."""
    return _rest_of_line(status, b"")


def read_birth(status: socket.socket) -> tuple[str, int | None]:
    """Return the line on a birth, and the descriptor that came with it."""
    first, descriptors, *_ = socket.recv_fds(status, 1, 1)
    try:
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        return _rest_of_line(status, first), next(iter(descriptors), None)
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise


def _rest_of_line(status: socket.socket, line: bytes) -> str:
    while not line.endswith(b"\n") and (piece := status.recv(1)):
        line += piece
    return line.decode().strip()
