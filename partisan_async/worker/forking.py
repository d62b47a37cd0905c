"""The forkserver: forks a worker at each request, and reports its process id and exit code.

A *request* has the worker's setup, and the sockets of its feed, its link and its *status*. On the
status, the forkserver sends the worker's process id and pidfd, and after its end its exit code.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import warnings
from contextlib import suppress
from typing import Any, NoReturn

from partisan_async.worker import arrangements, insides, leftovers, preload
from partisan_async.worker.handle import descriptor_of
from partisan_async.worker.messages import receive, send
from partisan_async.worker.start import work
from partisan_async.worker.taking_on import TakenOn, describe


def fork_workers(control: socket.socket, taken: TakenOn) -> NoReturn:
    """Import the project, report the result to the supervisor, and fork until it is gone.

    :param control: the socket with the supervisor's requests.
    :param taken: result of setting this process up as the command was.
    """
    trouble = taken.trouble
    if not trouble:
        try:
            preload.warm_up()
            preload.close_what_is_open()
            # Import it here, so that workers share its memory. It imports the models.
            from partisan_async.worker import main  # noqa: F401
        except BaseException as error:  # noqa: BLE001  it is reported
            trouble = describe(error)
    notes = [taken.note, leftovers.tell_of_sockets(control.fileno())]
    with suppress(OSError):  # the supervisor may have ended meanwhile
        send(control, json.dumps([trouble, [note for note in notes if note]]).encode(), [])
    if trouble:
        os._exit(1)
    preload.keep_shared()
    _ForkServer(control).serve()


class _ForkServer:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._status_of: dict[int, socket.socket] = {}
        self._threads = leftovers.threads()
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
            self._selector.register(self._control, selectors.EVENT_READ, self._answer)
            self._selector.register(self._wake, selectors.EVENT_READ, self._reap)
            while True:
                for key, _ in self._selector.select():
                    key.data()

    def _answer(self) -> None:
        received = None
        with suppress(OSError):
            received = receive(self._control)
        if received is None:
            _end()
        setup, (feed, link, number) = received
        status = socket.socket(fileno=number)
        pid = _fork(status)
        if pid == 0:
            self._leave(status)
            preload.make_anew()
            work(feed, link, setup, TakenOn(leftovers.tell_of_dead_threads(self._threads)))
        os.close(feed)
        os.close(link)
        if pid is not None:
            self._status_of[pid] = status
            _tell_of_birth(status, pid)

    def _leave(self, status: socket.socket) -> None:
        """In a worker: close the forkserver's files and restore its signal handlers."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, self._on_child or signal.SIG_DFL)
        self._selector.close()
        for each in (self._control, status, *self._status_of.values()):
            each.close()
        for number in self._unused:
            os.close(number)

    def _reap(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._wake, 65536)
        # Wait for each id, not for any child: the project may have children of its own here.
        for pid in list(self._status_of):
            try:
                ended, code = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:  # a thread of the project took its exit code
                self._status_of.pop(pid).close()
                continue
            if ended:
                with self._status_of.pop(pid) as status:
                    _tell(status, os.waitstatus_to_exitcode(code))


def _fork(status: socket.socket) -> int | None:
    """Return the worker's process id, 0 in the worker; ``None`` if the system refused."""
    try:
        with warnings.catch_warnings():
            # Python warns of a fork with threads; ``leftovers`` reports dead threads more clearly.
            warnings.simplefilter("ignore", DeprecationWarning)
            return os.fork()
    except OSError as error:
        _tell(status, describe(error))
        return None


def _tell_of_birth(status: socket.socket, pid: int) -> None:
    # Only here is the pidfd safe to open: the id is the worker's until this process collects the
    # exit code.
    descriptor = descriptor_of(pid)
    if descriptor is None:
        _tell(status, pid)
        return
    with suppress(OSError):  # the supervisor may be gone
        socket.send_fds(status, [f"{pid}\n".encode()], [descriptor])
    os.close(descriptor)


def _tell(status: socket.socket, what: Any) -> None:
    with suppress(OSError):  # the supervisor may be gone
        status.sendall(f"{what}\n".encode())


def _end() -> NoReturn:
    """End the forkserver: run the finalizers of objects made at the import."""
    with suppress(BaseException):
        insides.run_finalizers()
    os._exit(0)
