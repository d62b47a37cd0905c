"""Lets a run in a test's transaction behave as if it were in none.

What a statement sets for its own transaction, it would set for the rest of the test's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.pq import TransactionStatus

from partisan_async import logs
from partisan_async.enqueue.run import fetch


@contextmanager
def contained() -> Iterator[None]:
    """Let a run in the block behave as if it were not in a test's transaction."""
    with ExitStack() as stack:
        for connection in connections.all(initialized_only=True):
            if connection.in_atomic_block:
                stack.enter_context(_apart(connection))
        yield


@contextmanager
def setting_kept(name: str, alias: str) -> Iterator[None]:
    """Set a setting of the database's session back to what it was before the block."""
    ((value,),) = fetch("SELECT current_setting(%(name)s)", {"name": name}, alias)
    yield
    keep = {"name": name, "value": value}
    fetch("SELECT set_config(%(name)s, %(value)s, true)", keep, alias)


@contextmanager
def _apart(connection: BaseDatabaseWrapper) -> Iterator[None]:
    # A savepoint, so that a database error in the run does not abort the test's transaction. Other
    # failures keep what the run has written, as outside of a test.
    savepoint = transaction.atomic(using=connection.alias)
    savepoint._from_testcase = True  # type: ignore[attr-defined]  # noqa: SLF001  for atomic(durable=True)
    with savepoint, _committing(connection):
        yield
        if connection.connection.info.transaction_status == TransactionStatus.INERROR:
            transaction.set_rollback(True, using=connection.alias)


@contextmanager
def _committing(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Call the ``on_commit()`` functions of a run when its own transaction would commit."""
    outside = len(connection.savepoint_ids)
    before = len(connection.run_on_commit)
    register, release = connection.on_commit, connection.savepoint_commit

    def on_commit(func: Callable[[], object], robust: bool = False) -> None:
        register(func, robust)
        if len(connection.savepoint_ids) == outside:
            commit()

    def savepoint_commit(sid: str) -> None:
        release(sid)
        if len(connection.savepoint_ids) == outside:
            commit()

    def commit() -> None:
        calls = connection.run_on_commit[before:]
        del connection.run_on_commit[before:]
        for _, call, robust in calls:  # type: ignore[misc]  # the stubs say two
            try:
                call()
            except Exception as error:
                if not robust:
                    raise
                logs.callbacks.on_commit_failed(call, error)

    with patch.multiple(connection, on_commit=on_commit, savepoint_commit=savepoint_commit):
        yield
        commit()  # of blocks without a savepoint
