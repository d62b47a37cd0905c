"""A task whose end a caller waits for, and the time limit of the wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import connections
from django.db.transaction import TransactionManagementError
from django.utils.translation import override

from partisan_async import registry
from partisan_async.settings import queue_settings

LOOK_EVERY_SECONDS = 5.0
"""Interval at which the row is read without a NOTIFY, which may be lost with its connection."""


@dataclass(frozen=True, eq=False)
class Waited:
    """The task to wait for.

    :param database: returns the alias of the database that has the row.
    :param has_ended: reads the row; raises ``Task.DoesNotExist`` if it was deleted.
    :param status: returns the label of the state that was read last.
    """

    pk: int
    processor_class: str
    queue_name: str
    database: Callable[[], str]
    has_ended: Callable[[], bool]
    status: Callable[[], str]

    def way(self) -> tuple[str, str | None]:
        """Return the alias of the database that announces the end, and the queue's ``LISTEN_DSN``.

        :raises TypeError: the end is not announced.
        :raises TransactionManagementError: a transaction is open, which would never see the end.
        """
        alias = self.database()
        registry.autodiscover()  # another process may have enqueued it
        if not registry.get(self.processor_class).STORE_RESULT:
            raise TypeError(
                f"The end of task {self.pk} is not announced: set STORE_RESULT = True on"
                f" {self.processor_class}."
            )
        if connections[alias].in_atomic_block:
            raise TransactionManagementError(
                f"Task {self.pk} would be waited for in vain: what its worker sees, and what it"
                " writes, comes after the end of this transaction. Wait outside of atomic()."
            )
        return alias, queue_settings(self.queue_name).LISTEN_DSN

    @contextmanager
    def deadline(self, timeout_seconds: float | None) -> Iterator[float | None]:
        """Yield the moment at which the time is over, by the monotonic clock.

        :raises TimeoutError: ``patience`` found that the time is over.
        """
        try:
            yield None if timeout_seconds is None else time.monotonic() + timeout_seconds
        except _TimeIsOverError:
            with override(None):  # an error's text is English in every language of the site
                status = str(self.status())
            raise TimeoutError(
                f"Task {self.pk} {self.processor_class} has not ended within {timeout_seconds:g} s;"
                f" it is {status!r}."
            ) from None


def patience(deadline: float | None, at_most: float | None = None) -> float:
    """Return the seconds to wait before the row is read again.

    :param at_most: the maximum; ``None``: ``LOOK_EVERY_SECONDS``.
    """
    longest = LOOK_EVERY_SECONDS if at_most is None else at_most
    if deadline is None:
        return longest
    left = deadline - time.monotonic()
    if left <= 0:
        raise _TimeIsOverError
    return min(left, longest)


class _TimeIsOverError(Exception):
    pass
