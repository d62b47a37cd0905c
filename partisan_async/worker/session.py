"""One of Django's connections between two runs: whether it is in use, and how it is made as new."""

from __future__ import annotations

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.pq import TransactionStatus

from partisan_async.postgres import renewal

_IN_NO_TRANSACTION = (TransactionStatus.IDLE, TransactionStatus.UNKNOWN)


def is_in_transaction(wrapper: BaseDatabaseWrapper) -> bool:
    """Tell whether a transaction is open, or whether Django believes so."""
    # Without autocommit one begins with the next statement, whichever that is.
    if wrapper.in_atomic_block or wrapper.autocommit != wrapper.settings_dict["AUTOCOMMIT"]:
        return True
    if not isinstance(wrapper.connection, psycopg.Connection):
        return False
    return wrapper.connection.pgconn.transaction_status not in _IN_NO_TRANSACTION


def make_new(wrapper: BaseDatabaseWrapper, *, failed: bool) -> None:
    """Make the session as new, or close the connection, and the next run gets another.

    :param failed: the run raised an error: that may have been the session's fault.
    """
    if failed or wrapper.errors_occurred:
        give_up(wrapper)
        return
    wrapper.close_if_unusable_or_obsolete()
    if wrapper.connection is not None and not renewal.renew(wrapper):
        wrapper.close()


def give_up(wrapper: BaseDatabaseWrapper) -> None:
    """Close the connection, also where Django would give it to a pool."""
    if isinstance(wrapper.connection, psycopg.Connection):
        wrapper.connection.close()
    wrapper.close()
