"""Imports the project once, in the forkserver, so that workers inherit it.

After a fork, threads that the import started are dead, and files and sockets that it opened are
shared. This module closes and renews what it can; ``leftovers`` describes the rest.
"""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress

import django
from django.core.cache import caches
from django.db import connections

from partisan_async import registry
from partisan_async.worker import insides

is_done = False
"""True when Django is set up in this process and the tasks are imported."""


def warm_up() -> None:
    """Set Django up and import the tasks."""
    global is_done
    django.setup()
    registry.autodiscover()
    is_done = True


def close_what_is_open() -> None:
    """Before a fork: close connections to databases and caches, and flush buffers."""
    _close_databases()
    with suppress(Exception):  # the cache may be away
        caches.close_all()
    insides.renew_thread_of_queries(_close_databases)
    # Else each worker would write the buffers again at its end.
    for handler in insides.log_handlers():
        with suppress(Exception):
            handler.flush()
    sys.stdout.flush()
    sys.stderr.flush()


def keep_shared() -> None:
    """Keep the memory of existing objects shared with workers."""
    # Freeze them: when the garbage collector marks an object, its page is copied.
    gc.collect()
    gc.freeze()


def make_anew() -> None:
    """After a fork: renew what must differ between workers."""
    # The module random and OpenSSL reseed themselves.
    if (numpy_random := sys.modules.get("numpy.random")) is not None:
        numpy_random.seed()
    if (multiprocessing := sys.modules.get("multiprocessing.process")) is not None:
        multiprocessing.current_process().authkey = os.urandom(32)
    insides.leave_finalizers_to_parent()
    insides.run_after_forkers()  # libraries rely on it, as on os.register_at_fork()


def _close_databases() -> None:
    connections.close_all()
    for connection in connections.all(initialized_only=True):
        if connection.settings_dict["OPTIONS"].get("pool"):
            connection.close_pool()  # type: ignore[attr-defined]
