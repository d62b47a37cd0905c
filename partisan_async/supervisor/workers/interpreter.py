"""Fresh interpreters for workers and their forkserver, started as this one was.

The standard library knows which options this interpreter was started with, by a function that it
does not document. Where that is gone, the options are left out, and this is said once.
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
    """Start a fresh interpreter with a program of ``birth``; return it, and the way to it."""
    started = origin.of_this_process()
    ours, theirs = socket.socketpair()
    with theirs:
        fds = [each.fileno() for each in (theirs, *passed)]
        # The path first: -c puts the current folder on it, where anything may lie.
        code = (
            f"import sys; sys.path[:] = {started.path!r};"
            f" from partisan_async.worker import birth; birth.{what}(*{fds})"
        )
        command = [sys.executable, *_options(), "-c", code]
        try:
            with _signals_kept_off():
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=fds)  # noqa: S603  this interpreter
        except OSError:
            ours.close()
            raise
    with suppress(OSError):  # it has ended already, and is found to have
        messages.send(ours, json.dumps(started).encode(), [])
    return process, ours


def _options() -> list[str]:
    try:
        options = list(subprocess._args_from_interpreter_flags())  # type: ignore[attr-defined]  # noqa: SLF001
    except (AttributeError, TypeError):
        options = None
    if options is None or not all(isinstance(option, str) for option in options):
        _say_that_options_are_lacking()
        return []
    return options


@cache
def _say_that_options_are_lacking() -> None:
    logs.workers.warned(
        "worker processes are started without the options of this interpreter, such as -W and -X:"
        " this version of Python does not tell them; set PYTHONWARNINGS and the like instead"
    )


@contextmanager
def _signals_kept_off() -> Iterator[None]:
    # A new process inherits the mask: until it has seen to these signals, they would end it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
