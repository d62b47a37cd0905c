"""Closes the caches that a run used, as Django does after a request."""

from __future__ import annotations

from django.core.cache import caches

from partisan_async import logs
from partisan_async.claim import Claim


def close_caches(claim: Claim) -> None:
    """Close the caches of a run. Call it in the run's context, where Django keeps them."""
    for used in caches.all(initialized_only=True):
        try:
            used.close()
        except Exception as error:  # noqa: BLE001  no fault of the task
            logs.callbacks.cache_not_closed(claim, error)
