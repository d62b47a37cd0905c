"""What every worker needs, imported once: in the forkserver, from where workers inherit it.

What the project's code opens or starts meanwhile is dead or shared after the fork. What can be
closed or made anew is; of the rest the supervisor is told, in sentences.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from partisan_async.worker import ending

_WAY_OUT = "in a receiver of the signal worker_started, or set PRELOAD = False"

_CLOSE_SECONDS = 5

is_done = False
"""Django is set up in this process, and the tasks are imported."""


def warm_up() -> None:
    """Set Django up and import the tasks."""
    global is_done
    import django

    from partisan_async import registry

    django.setup()
    registry.autodiscover()
    is_done = True


def close_what_is_open() -> None:
    """Close and flush what may not cross a fork: connections to databases and caches, buffers."""
    from django.core.cache import caches

    _close_databases()
    with suppress(Exception):  # it may be away
        caches.close_all()
    _end_thread_of_async_queries()
    # Each worker would write it, too, at its end.
    for reference in list(logging._handlerList):  # type: ignore[attr-defined]  # noqa: SLF001
        with suppress(Exception):
            reference().flush()
    sys.stdout.flush()
    sys.stderr.flush()


def keep_shared() -> None:
    """Keep the memory shared of what is here now, and stays for good."""
    # The collector's marks would unshare every page.
    gc.collect()
    gc.freeze()


def threads() -> set[str]:
    """Return the names of the threads beside the main one."""
    return {each.name for each in threading.enumerate()} - {threading.main_thread().name}


def tell_of_dead_threads(before: set[str]) -> str | None:
    """Return a sentence on the threads that were there before the fork, and are not any more."""
    # Looked for after it: some libraries start theirs anew in a child.
    if not (dead := before - threads()):
        return None
    return (
        f"in workers these threads do not run, which were started while the project was imported:"
        f" {', '.join(map(repr, sorted(dead)))}; start them {_WAY_OUT}"
    )


def tell_of_sockets(own: int) -> str | None:
    """Return a sentence on the sockets that are open, and would be shared by all workers.

    :param own: this process's way to the supervisor.
    """
    if not (found := sorted(_sockets(own))):
        return None
    return (
        "all workers share what was opened while the project was imported:"
        f" {', '.join(found)}; open it {_WAY_OUT}"
    )


def make_anew() -> None:
    """After a fork, make anew what must not be the same in two workers."""
    # The module random and OpenSSL see to it themselves.
    if (numpy_random := sys.modules.get("numpy.random")) is not None:
        numpy_random.seed()
    if (multiprocessing := sys.modules.get("multiprocessing.process")) is not None:
        multiprocessing.current_process().authkey = os.urandom(32)
    ending.leave_to_parent()
    if (util := sys.modules.get("multiprocessing.util")) is not None:
        util._run_after_forkers()  # noqa: SLF001  libraries count on it as on os.register_at_fork()


def _end_thread_of_async_queries() -> None:
    # It would be dead in workers, and their queries would wait for it.
    from asgiref.sync import SyncToAsync

    executor = SyncToAsync.single_thread_executor
    if executor._threads:  # noqa: SLF001  it has run something
        with suppress(Exception):
            executor.submit(_close_databases).result(_CLOSE_SECONDS)
            executor.shutdown()
        SyncToAsync.single_thread_executor = ThreadPoolExecutor(max_workers=1)


def _close_databases() -> None:
    from django.db import connections

    connections.close_all()
    for connection in connections.all(initialized_only=True):
        if connection.settings_dict["OPTIONS"].get("pool"):
            connection.close_pool()  # type: ignore[attr-defined]


def _sockets(own: int) -> Iterator[str]:
    for number in map(int, os.listdir("/dev/fd")):
        with suppress(OSError):  # such as the one that lists them
            if number != own and stat.S_ISSOCK(os.fstat(number).st_mode):
                with socket.socket(fileno=os.dup(number)) as opened:
                    yield from _describe(opened)


def _describe(opened: socket.socket) -> Iterator[str]:
    if opened.type != socket.SOCK_STREAM:
        return  # datagrams do not mix
    if opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        yield f"a listening socket on {_address(opened.getsockname())}"
    elif address := _address(opened.getpeername()):
        yield f"a connection to {address}"


def _address(name: object) -> str:
    # A pair of sockets has no names: both ends are here.
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name or "")
