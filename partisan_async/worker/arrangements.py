"""What a worker changes in its process, and how children that tasks fork get rid of that.

A task may fork: by ``os.fork()``, by a pool of processes, by ``multiprocessing.Process``. Such a
child is no worker. It must behave as in a shell: SIGTERM ends it, and it does not have the worker's
sockets.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that stop a supervisor; its workers ignore them."""

_before: dict[int, Any] = {}
_undoings: list[Callable[[], None]] = []
_mask = threading.local()
"""Of the thread that forks: several may do so at once."""


def outlive_stop_signals() -> None:
    """From now on, do nothing at a signal that stops a supervisor. Called again: still so.

    Signals reach the whole process group, and systemd sends them to every process of a service:
    only the supervisor heeds them, or the workers would be gone before it could let them finish.
    It is called after code of the project's that may have said otherwise.
    """
    for number in STOP_SIGNALS:
        handler = signal.getsignal(number)
        if handler is not _outlive:
            _before[number] = signal.SIG_DFL if handler is None else handler
            # Not SIG_IGN: commands that tasks start would inherit it, and could not be terminated.
            signal.signal(number, _outlive)
        signal.siginterrupt(number, False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # the supervisor kept them off


def undo_in_children(*undoings: Callable[[], None]) -> None:
    """From now on, do this in every child that this process forks, and reset its signals there."""
    if not _undoings:
        os.register_at_fork(
            before=_keep_signals_off, after_in_parent=_let_signals_in, after_in_child=_undo
        )
    _undoings.extend(undoings)


def _keep_signals_off() -> None:
    # One that reaches the child before its handlers are undone would do nothing there.
    _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def _let_signals_in() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _mask.before)


def _undo() -> None:
    for undo in _undoings:
        undo()
    for number, handler in _before.items():
        if signal.getsignal(number) is _outlive:  # else the task has said what it wants
            signal.signal(number, handler)
    _let_signals_in()


def _outlive(*_: Any) -> None:
    """Do nothing."""
