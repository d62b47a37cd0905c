"""A worker process as the operating system sees it: its id, signals to it, and its exit code.

A *forked* worker is a child of the forkserver, which reports its exit code on a socket. A *cold*
worker is a child of this process.
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
        """Send the process a signal; return whether it still existed."""

    def wait(self) -> int | None:
        """Wait until the process ends; return its exit code, ``None`` if it is unknown."""


class Forked:
    """A worker that the forkserver forked.

    :param status: socket on which the forkserver sends the exit code; it ends if the server dies.
    :param descriptor: pidfd of the worker, opened before anybody could collect its exit code.
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
        with self._status, suppress(OSError, ValueError):  # the server may die in mid-line
            if code := read_line(self._status):
                return int(code)
        while not self._is_gone():
            time.sleep(LOOK_EVERY_SECONDS)
        return None

    def _is_gone(self) -> bool:
        with suppress(ChildProcessError):  # as process 1 of a container we inherit orphans
            os.waitpid(self.pid, os.WNOHANG)
        if not self.signal(0):
            return True
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] == "Z"  # a zombie that nobody collects


class Cold:
    """A worker in a fresh interpreter."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.pid = process.pid
        self._process = process
        # Not Popen.send_signal(): the thread in wait() may have just collected the exit code, and
        # then the pid may be another process's.
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
    """Return the next line; an empty text at the end of the stream."""
    return _rest_of_line(status, b"")


def read_birth(status: socket.socket) -> tuple[str, int | None]:
    """Return the line that reports a fork, and the pidfd that came with it, if any."""
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
