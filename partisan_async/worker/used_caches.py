"""Closes the caches that a run used, as Django does after a request."""

from __future__ import annotations

from django.core.cache import caches

from partisan_async import logs
from partisan_async.claim import Claim


def close_caches(claim: Claim) -> None:
    """Close them; call it in the run's own context, where Django keeps those that the run used."""
    for used in caches.all(initialized_only=True):
        try:
            used.close()
        except Exception as error:  # noqa: BLE001  it is not the task's
            logs.callbacks.cache_not_closed(claim, error)
