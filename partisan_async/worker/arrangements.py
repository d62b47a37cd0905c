"""What a worker changes in its process, and how children that tasks fork undo it.

A task may fork: by ``os.fork()``, a process pool, or ``multiprocessing.Process``. The child is no
worker and must behave as in a shell: SIGTERM ends it, and it does not hold the worker's sockets.
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
"""The signal mask of each thread that forks: several may fork at once."""


def outlive_stop_signals() -> None:
    """Ignore the signals that stop a supervisor.

    They reach the whole process group, and systemd sends them to every process of a service. If
    workers heeded them, they would end before the supervisor could let their runs finish. Call this
    again after project code, which may have changed the handlers.
    """
    for number in STOP_SIGNALS:
        handler = signal.getsignal(number)
        if handler is not _outlive:
            _before[number] = signal.SIG_DFL if handler is None else handler
            # Not SIG_IGN: commands that tasks start would inherit it, and outlive a SIGTERM.
            signal.signal(number, _outlive)
        signal.siginterrupt(number, False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # the supervisor had them blocked


def undo_in_children(*undoings: Callable[[], None]) -> None:
    """In every child that this process forks, call these and restore the signal handlers."""
    if not _undoings:
        os.register_at_fork(
            before=_block_signals, after_in_parent=_unblock_signals, after_in_child=_undo
        )
    _undoings.extend(undoings)


def _block_signals() -> None:
    # A signal that reached the child before its handlers are restored would be lost.
    _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _mask.before)


def _undo() -> None:
    for undo in _undoings:
        undo()
    for number, handler in _before.items():
        if signal.getsignal(number) is _outlive:  # else the task has set its own
            signal.signal(number, handler)
    _unblock_signals()


def _outlive(*_: Any) -> None:
    """Do nothing."""
