"""Fresh interpreters for workers and their forkserver, with the options of this one.

An undocumented function of the standard library returns these options. If it is missing, they are
left out, and a warning is logged once.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

from partisan_async import logs
from partisan_async.worker import messages, origin
from partisan_async.worker.arrangements import STOP_SIGNALS


def spawn(what: str, *passed: socket.socket) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a fresh interpreter that runs a function of ``birth``.

    Return the process, and the socket that controls it.

    :param what: the function's name.
    :param passed: sockets that the process inherits.
    """
    started = origin.of_this_process()
    ours, theirs = socket.socketpair()
    with theirs:
        fds = [each.fileno() for each in (theirs, *passed)]
        # Set sys.path first: -c puts the current folder on it, which may hold any module.
        code = (
            f"import sys; sys.path[:] = {started.path!r};"
            f" from partisan_async.worker import birth; birth.{what}(*{fds})"
        )
        command = [sys.executable, *_options(), "-c", code]
        try:
            with stop_signals_blocked():
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=fds)  # noqa: S603  this interpreter
        except OSError:
            ours.close()
            raise
    with suppress(OSError):  # it has ended already, which the caller will notice
        messages.send(ours, json.dumps(started).encode(), [])
    return process, ours


def _options() -> list[str]:
    try:
        options = list(subprocess._args_from_interpreter_flags())  # type: ignore[attr-defined]  # noqa: SLF001
    except (AttributeError, TypeError):
        options = None
    if options is None or not all(isinstance(option, str) for option in options):
        _warn_of_missing_options()
        return []
    return options


@cache
def _warn_of_missing_options() -> None:
    logs.workers.warned(
        "worker processes are started without the options of this interpreter, such as -W and -X:"
        " this version of Python does not tell them; set PYTHONWARNINGS and the like instead"
    )


@contextmanager
def stop_signals_blocked() -> Iterator[None]:
    """Start a process in this block with the signals blocked that stop a supervisor."""
    # A new process inherits the mask. Without it these signals would end the process before it has
    # set its handlers.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
