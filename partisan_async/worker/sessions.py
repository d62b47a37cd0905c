"""The database sessions of a worker: what a run finds in them, and what becomes of what it leaves.

A run finds connections that work, and each session as new. The main thread runs one task after the
other: its connections are seen to here, after each run. Those of other threads that outlive a run
are ``attended`` to. Async runs, and the threads of their event loop, close what they opened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from partisan_async import logs
from partisan_async.claim import Claim
from partisan_async.worker.attended import of_main_thread
from partisan_async.worker.session import give_up, is_in_transaction, make_new


def tidy(see_to: Callable[..., None], *arguments: Any) -> None:
    """See to connections. If that fails they are forgotten, and the next task gets new ones."""
    try:
        see_to(*arguments)
    except BaseException as error:  # noqa: BLE001  it is logged
        logs.sessions.not_closed(error)
        for wrapper in connections.all(initialized_only=True):
            _forget(wrapper)


def close_old() -> None:
    """Close connections of the main thread that are spent."""
    for attended in list(of_main_thread):
        attended.wrapper.close_if_unusable_or_obsolete()


def close_all(*, failed: bool = False) -> None:
    """Close all connections of this thread.

    :param failed: the run raised an error: what Django would give to a pool is closed, too.
    """
    for wrapper in connections.all(initialized_only=True):
        if failed:
            give_up(wrapper)
        else:
            wrapper.close()


def forget_all() -> None:
    """Give up all connections of this thread, and the state that Django believes them to be in."""
    for wrapper in connections.all(initialized_only=True):
        wrapper.close()
        _forget(wrapper)


def end_run(claim: Claim, run: int, failed: bool) -> None:
    """Make the main thread's connections such as the next run is to find them.

    :param run: the number of the run that ends.
    :param failed: it raised an error: that may have been the session's fault.
    """
    if not of_main_thread:  # to iterate over an empty WeakSet takes ten times as long
        return
    for attended in list(of_main_thread):
        wrapper = attended.wrapper
        if wrapper.queries_log:
            wrapper.queries_log.clear()
        if wrapper.connection is None:
            continue
        if is_in_transaction(wrapper):
            who = f"task {claim.id} {claim.processor_class}"
            logs.sessions.rolled_back(who, wrapper.alias)
            wrapper.close()
            _forget(wrapper)
        elif attended.run < run:
            wrapper.close_if_unusable_or_obsolete()
        else:
            make_new(wrapper, failed=failed)


def _forget(wrapper: BaseDatabaseWrapper) -> None:
    """Have Django make another in its place: it is lost with the state of its atomic blocks."""
    for attended in list(of_main_thread):
        if attended.wrapper is wrapper:
            of_main_thread.discard(attended)
    if wrapper in connections.all(initialized_only=True):  # the task may have done so
        del connections[wrapper.alias]
