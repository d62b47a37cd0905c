"""Cleans the database sessions of a worker, so that each run finds working, fresh ones.

The main thread's connections are cleaned here after each run. ``attended`` cleans those of other
threads that outlive a run. Async runs, and the threads of their event loop, close theirs.
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
    """Clean connections. If that fails, drop them all, so that the next task gets new ones."""
    try:
        see_to(*arguments)
    except BaseException as error:  # noqa: BLE001  it is logged
        logs.sessions.not_closed(error)
        for wrapper in connections.all(initialized_only=True):
            _forget(wrapper)


def close_old() -> None:
    """Close unusable and obsolete connections of the main thread."""
    for attended in list(of_main_thread):
        attended.wrapper.close_if_unusable_or_obsolete()


def close_all(*, failed: bool = False) -> None:
    """Close all connections of this thread.

    :param failed: the run raised an error: close also those that Django would return to a pool.
    """
    for wrapper in connections.all(initialized_only=True):
        if failed:
            give_up(wrapper)
        else:
            wrapper.close()


def forget_all() -> None:
    """Close and drop all connections of this thread, with the state that Django keeps of them."""
    for wrapper in connections.all(initialized_only=True):
        wrapper.close()
        _forget(wrapper)


def end_run(claim: Claim, run: int, failed: bool) -> None:
    """Clean the main thread's connections for the next run.

    :param run: number of the run that ends.
    :param failed: the run raised an error, which the session may have caused.
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
    """Drop a connection with the state of its atomic blocks; Django makes another one."""
    for attended in list(of_main_thread):
        if attended.wrapper is wrapper:
            of_main_thread.discard(attended)
    if wrapper in connections.all(initialized_only=True):  # the task may have done so
        del connections[wrapper.alias]
