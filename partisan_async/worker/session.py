"""Checks and resets one of Django's connections between two runs."""

from __future__ import annotations

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.pq import TransactionStatus

from partisan_async.postgres import renewal

_IN_NO_TRANSACTION = (TransactionStatus.IDLE, TransactionStatus.UNKNOWN)


def is_in_transaction(wrapper: BaseDatabaseWrapper) -> bool:
    """Tell whether a transaction is open, or Django believes that one is."""
    # Without autocommit, any next statement begins a transaction.
    if wrapper.in_atomic_block or wrapper.autocommit != wrapper.settings_dict["AUTOCOMMIT"]:
        return True
    if not isinstance(wrapper.connection, psycopg.Connection):
        return False
    return wrapper.connection.pgconn.transaction_status not in _IN_NO_TRANSACTION


def make_new(wrapper: BaseDatabaseWrapper, *, failed: bool) -> None:
    """Reset the session to its initial state; if that fails, close the connection.

    :param failed: the run raised an error, which the session may have caused: close it.
    """
    if failed or wrapper.errors_occurred:
        give_up(wrapper)
        return
    wrapper.close_if_unusable_or_obsolete()
    if wrapper.connection is not None and not renewal.renew(wrapper):
        wrapper.close()


def give_up(wrapper: BaseDatabaseWrapper) -> None:
    """Close the connection, even if Django would return it to a pool."""
    if isinstance(wrapper.connection, psycopg.Connection):
        wrapper.connection.close()
    wrapper.close()
