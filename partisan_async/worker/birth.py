"""The program of a process that makes workers, or that is one from its start.

A *forkserver* sets itself up once and forks a worker at each request. A *cold* worker sets itself
up alone and inherits nothing. Both are fresh interpreters, that first take on how the command was
started. A *request* has a worker's feed and link, and what it must know; a forkserver's has a
socket, too, on which it tells the worker's process id with a descriptor of it, and at its end
its exit code.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import struct
import traceback
import warnings
import weakref
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

from partisan_async.worker import arrangements, preload
from partisan_async.worker.handle import descriptor_of
from partisan_async.worker.origin import Origin, TakenOn, describe, take_on

_LENGTH = struct.Struct("!I")


def forkserver(number: int) -> NoReturn:
    """Fork workers, as the supervisor at the other end of this socket asks."""
    control = socket.socket(fileno=number)
    take_on(_origin(control), partial(_fork_workers, control))


def cold(number: int, feed: int, link: int) -> NoReturn:
    """Be the one worker that the supervisor at the other end of this socket asks for."""
    control = socket.socket(fileno=number)
    take_on(_origin(control), partial(_be_the_one, control, feed, link))


def send(control: socket.socket, message: bytes, fds: list[int]) -> None:
    """Send a message with its file descriptors."""
    socket.send_fds(control, [_LENGTH.pack(len(message))], fds)
    control.sendall(message)


def receive(control: socket.socket) -> tuple[bytes, list[int]] | None:
    """Return the next message, and what came with it; ``None`` at the end of all."""
    header, fds, *_ = socket.recv_fds(control, _LENGTH.size, 4)
    if len(header) < _LENGTH.size:
        return None
    left, parts = _LENGTH.unpack(header)[0], []
    while left:
        parts.append(part := control.recv(left))
        if not part:
            return None
        left -= len(part)
    return b"".join(parts), fds


def _origin(control: socket.socket) -> Origin:
    received = receive(control)
    if received is None:
        os._exit(1)
    return Origin(*json.loads(received[0]))


def _be_the_one(control: socket.socket, feed: int, link: int, taken: TakenOn) -> NoReturn:
    received = receive(control)
    if received is None:
        os._exit(1)
    control.close()
    setup, _ = received
    _work(feed, link, setup, taken)


def _fork_workers(control: socket.socket, taken: TakenOn) -> NoReturn:
    trouble = taken.trouble
    if not trouble:
        try:
            preload.warm_up()
            preload.close_what_is_open()
            # Here, so that workers share it, too; it imports the models.
            from partisan_async.worker import executor, worker  # noqa: F401
        except BaseException as error:  # noqa: BLE001  the supervisor is to know
            trouble = describe(error)
    notes = [taken.note, preload.tell_of_sockets(control.fileno())]
    send(control, json.dumps([trouble, [note for note in notes if note]]).encode(), [])
    if trouble:
        os._exit(1)
    preload.keep_shared()
    _ForkServer(control).serve()


class _ForkServer:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._told: dict[int, socket.socket] = {}
        self._threads = preload.threads()
        self._wake, wake = os.pipe()
        for end in (self._wake, wake):
            os.set_blocking(end, False)
        self._unused = (self._wake, wake)
        self._on_child = signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        arrangements.outlive_stop_signals()

    def serve(self) -> NoReturn:
        """Fork until the supervisor is gone."""
        with selectors.DefaultSelector() as self._selector:
            self._selector.register(self._control, selectors.EVENT_READ, self._fork)
            self._selector.register(self._wake, selectors.EVENT_READ, self._reap)
            while True:
                for key, _ in self._selector.select():
                    key.data()

    def _fork(self) -> None:
        received = None
        with suppress(OSError):
            received = receive(self._control)
        if received is None:
            _clear_away()
        setup, (feed, link, status) = received
        told = socket.socket(fileno=status)
        try:
            with warnings.catch_warnings():
                # Of threads the supervisor is told in a sentence of its own.
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
        except OSError as error:
            pid = -1
            _tell(told, describe(error))
        if pid == 0:
            self._leave(told)
            preload.make_anew()
            _work(feed, link, setup, TakenOn(preload.tell_of_dead_threads(self._threads)))
        os.close(feed)
        os.close(link)
        if pid > 0:
            self._told[pid] = told
            _tell_of_birth(told, pid)

    def _leave(self, told: socket.socket) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, self._on_child or signal.SIG_DFL)
        self._selector.close()
        for each in (self._control, told, *self._told.values()):
            each.close()
        for number in self._unused:
            os.close(number)

    def _reap(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._wake, 65536)
        # By their ids: the project may have children of its own here.
        for pid in list(self._told):
            try:
                ended, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:  # a thread of the project's took its exit code
                self._told.pop(pid).close()
                continue
            if ended:
                told = self._told.pop(pid)
                _tell(told, os.waitstatus_to_exitcode(status))
                told.close()


def _clear_away() -> NoReturn:
    """End the forkserver: what was made before the fork is its own."""
    with suppress(BaseException):
        getattr(weakref.finalize, "_exitfunc", int)()
    os._exit(0)


def _tell(told: socket.socket, what: Any) -> None:
    with suppress(OSError):  # the supervisor may be gone
        told.sendall(f"{what}\n".encode())


def _tell_of_birth(told: socket.socket, pid: int) -> None:
    # Made here: until this process asks for the exit code, the id is the worker's.
    descriptor = descriptor_of(pid)
    if descriptor is None:
        _tell(told, pid)
        return
    with suppress(OSError):  # the supervisor may be gone
        socket.send_fds(told, [f"{pid}\n".encode()], [descriptor])
    os.close(descriptor)


def _work(feed: int, link: int, setup: bytes, taken: TakenOn) -> NoReturn:
    try:
        from partisan_async.worker import worker

        pair = socket.socket(fileno=feed), socket.socket(fileno=link)
        worker.start(*pair, worker.Setup.decoded(setup), taken)
        # Once more: receivers of worker_started are the project's code, too.
        arrangements.outlive_stop_signals()
        worker.serve()
    except BaseException:  # noqa: BLE001  nobody else would print it
        traceback.print_exc()
        # At once: a thread that is waited for would keep the link open, and tasks would come.
        os._exit(1)
