"""Starts worker processes: forked from a server that has imported the project, or *cold*.

This process has one server, a child, for all queues. It talks to the server by a socket pair, so
there is no socket file that somebody could remove or listen on. A server that died or does not
answer is replaced. If a server cannot import the project, workers start cold for a while.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

from partisan_async import logs
from partisan_async.supervisor.workers.child import Child, Forked, read_birth, start_cold
from partisan_async.supervisor.workers.interpreter import spawn
from partisan_async.worker import birth, messages
from partisan_async.worker.setup import Setup

START_SECONDS = 60
"""Time that a server has to import the project; then it is ended."""

ANSWER_SECONDS = 10
"""Time that a server has to fork a worker; then it is ended, and the next start makes another."""

END_SECONDS = 1
"""Time that a server has to run finalizers of the project before it is killed."""

COLD_SECONDS = 30
"""Time for which workers start cold after a server could not import the project."""

_FORKS = sys.platform != "darwin"
"""On macOS, system libraries do not survive a fork."""


def start_worker(feed: socket.socket, link: socket.socket, setup: Setup) -> Child:
    """Start a worker process with its ends of feed and link; this may take some seconds.

    :raises OSError: it could not be started, or may have been, unknown to us. A retry may succeed.
    """
    packed = setup.encoded()
    with _lock:
        server = _running_server() if _FORKS and setup.settings.PRELOAD else None
        if server is None:
            return start_cold(feed, link, packed)
        status = server.ask(feed, link, packed)
    return server.answer(status)


def warm_up(setup: Setup) -> None:
    """Have a server import the project, where one will be needed; this takes as long as that."""
    if _FORKS and setup.settings.PRELOAD:
        with _lock:
            _running_server()


def pid() -> int | None:
    """Return the server's process id; ``None``: there is no server."""
    server = _server
    return None if server is None else server.pid


def stop() -> None:
    """Stop the server; the next start makes another one."""
    global _server
    with _lock:
        if _server is not None:
            _server.stop()
        _server = None


def give_up_start() -> None:
    """Kill a server that still imports the project; its callers then start cold workers."""
    if (process := _starting) is not None:
        process.kill()


def warn_once(message: str) -> None:
    """Log a warning once per process."""
    if message not in _warned:
        _warned.add(message)
        logs.workers.warned(message)


class Server:
    """A running forkserver.

    ``trouble`` says why it forks no workers; ``None``: it does.
    """

    def __init__(self) -> None:
        global _starting
        self._process, self._control = spawn(birth.forkserver.__name__)
        self._control.settimeout(START_SECONDS)
        self.trouble, notes = "it ended, or did not report in time", []
        _starting = self._process
        with suppress(OSError):
            if report := messages.receive(self._control):
                self.trouble, notes = json.loads(report[0])
        _starting = None
        self._control.settimeout(ANSWER_SECONDS)
        for note in notes:
            warn_once(note)
        if self.trouble:
            self.stop()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def lives(self) -> bool:
        """True while the server can be asked."""
        return self._control.fileno() >= 0 and self._process.poll() is None

    def ask(self, feed: socket.socket, link: socket.socket, setup: bytes) -> socket.socket:
        """Ask for a worker; return the socket on which the server will answer."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                fds = [feed.fileno(), link.fileno(), theirs.fileno()]
                messages.send(self._control, setup, fds)
            except OSError:
                ours.close()
                self.stop()
                raise
        return ours

    def answer(self, status: socket.socket) -> Child:
        """Wait for the answer, without the lock, and return the new worker."""
        status.settimeout(ANSWER_SECONDS)
        pid, descriptor = 0, None
        try:
            line, descriptor = read_birth(status)
            pid = int(line or "0")
        except ValueError as error:  # the line is what the fork raised
            status.close()
            raise OSError(f"the forkserver could not fork: {error}") from error
        except OSError:
            pass
        if not pid:
            # It may have forked without an answer. A retry is safe: it uses other sockets, so no
            # two workers share a feed.
            status.close()
            with _lock:  # another thread may be asking it
                self.stop()
            raise OSError("the forkserver ended, or did not answer")
        status.settimeout(None)
        return Forked(pid, status, descriptor)

    def stop(self) -> None:
        """End the server; its workers go on."""
        self._control.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
        self._process.kill()
        self._process.wait()

    def forget(self) -> None:
        """In a fork of this process: leave the server to the parent."""
        self._control.close()
        self._process.returncode = 0


_lock = threading.Lock()
_server: Server | None = None
_starting: subprocess.Popen[bytes] | None = None
_cold_until = 0.0
_warned: set[str] = set()


def _running_server() -> Server | None:
    """Return a server, a new one if needed; ``None`` if it cannot import the project."""
    global _server, _cold_until
    if _server is not None and _server.lives:
        return _server
    if _server is not None:
        _server.stop()
    _server = None
    if time.monotonic() >= _cold_until:
        server = Server()
        if server.trouble is None:
            _server = server
        else:
            _cold_until = time.monotonic() + COLD_SECONDS
            warn_once(f"workers start cold, and share no memory: {server.trouble}")
    return _server


def _forget() -> None:
    global _lock, _server, _starting
    _lock = threading.Lock()
    _starting = None
    if _server is not None:
        _server.forget()
        _server = None


os.register_at_fork(after_in_child=_forget)
atexit.register(stop)
