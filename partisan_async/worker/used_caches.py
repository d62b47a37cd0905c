"""Closes the caches that a run used, as Django does after a request."""

from __future__ import annotations

from django.core.cache import BaseCache, caches

from partisan_async import logs
from partisan_async.claim import Claim

_any = True
"""Whether this process may have made a cache: to ask Django for them takes as long as a fourth of
all else that is done for a short task."""


def watch() -> None:
    """Notice from now on whether this process makes a cache at all."""
    global _any
    make = caches.create_connection

    def create_connection(alias: str) -> BaseCache:
        global _any
        _any = True
        return make(alias)

    caches.create_connection = create_connection  # type: ignore[method-assign]
    _any = bool(caches.all(initialized_only=True))


def close_caches(claim: Claim) -> None:
    """Close them; call it in the run's own context, where Django keeps those that the run used."""
    if not _any:
        return
    for used in caches.all(initialized_only=True):
        try:
            used.close()
        except Exception as error:  # noqa: BLE001  it is not the task's
            logs.callbacks.cache_not_closed(claim, error)
