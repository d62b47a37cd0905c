"""A task whose end somebody waits for: which one it is, and how long it may take."""

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
"""Interval at which the row is read without a NOTIFY: one may be lost with its connection."""


@dataclass(frozen=True, eq=False)
class Waited:
    """What to wait for.

    :param database: returns the alias of the database that the row is in.
    :param has_ended: reads the row; raises ``Task.DoesNotExist`` where it was deleted.
    :param status: returns the state that was read last, as people are shown it.
    """

    pk: int
    processor_class: str
    queue_name: str
    database: Callable[[], str]
    has_ended: Callable[[], bool]
    status: Callable[[], str]

    def way(self) -> tuple[str, str | None]:
        """Return the alias of the database that tells the end, and the queue's ``LISTEN_DSN``.

        :raises TypeError: nobody tells it.
        :raises TransactionManagementError: a transaction is open, in which it is never seen.
        """
        alias = self.database()
        registry.autodiscover()  # another process may have enqueued it
        if not registry.get(self.processor_class).STORE_RESULT:
            raise TypeError(
                f"Nobody tells the end of task {self.pk}: set STORE_RESULT = True on"
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

        :raises TimeoutError: ``patience`` found that it is.
        """
        try:
            yield None if timeout_seconds is None else time.monotonic() + timeout_seconds
        except _TimeIsOverError:
            with override(None):  # it is the code's, and goes to the log
                status = str(self.status())
            raise TimeoutError(
                f"Task {self.pk} {self.processor_class} has not ended within {timeout_seconds:g} s;"
                f" it is {status!r}."
            ) from None


def patience(deadline: float | None, at_most: float | None = None) -> float:
    """Return how many seconds to wait until the next look at the row."""
    longest = LOOK_EVERY_SECONDS if at_most is None else at_most
    if deadline is None:
        return longest
    left = deadline - time.monotonic()
    if left <= 0:
        raise _TimeIsOverError
    return min(left, longest)


class _TimeIsOverError(Exception):
    pass
