"""What every worker needs, imported once: in the forkserver, from where workers inherit it.

What the project's code opens or starts meanwhile is dead or shared after the fork. This closes what
can be closed, and makes anew what can be made anew; ``leftovers`` tells of the rest.
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
"""Django is set up in this process, and the tasks are imported."""


def warm_up() -> None:
    """Set Django up and import the tasks."""
    global is_done
    django.setup()
    registry.autodiscover()
    is_done = True


def close_what_is_open() -> None:
    """Close and flush what may not cross a fork: connections to databases and caches, buffers."""
    _close_databases()
    with suppress(Exception):  # it may be away
        caches.close_all()
    insides.renew_thread_of_queries(_close_databases)
    # Each worker would write it, too, at its end.
    for handler in insides.log_handlers():
        with suppress(Exception):
            handler.flush()
    sys.stdout.flush()
    sys.stderr.flush()


def keep_shared() -> None:
    """Keep the memory shared of what is here now, and stays for good."""
    # The collector's marks would unshare every page.
    gc.collect()
    gc.freeze()


def make_anew() -> None:
    """After a fork, make anew what must not be the same in two workers."""
    # The module random and OpenSSL see to it themselves.
    if (numpy_random := sys.modules.get("numpy.random")) is not None:
        numpy_random.seed()
    if (multiprocessing := sys.modules.get("multiprocessing.process")) is not None:
        multiprocessing.current_process().authkey = os.urandom(32)
    insides.leave_finalizers_to_parent()
    insides.run_after_forkers()  # libraries count on it as on os.register_at_fork()


def _close_databases() -> None:
    connections.close_all()
    for connection in connections.all(initialized_only=True):
        if connection.settings_dict["OPTIONS"].get("pool"):
            connection.close_pool()  # type: ignore[attr-defined]
