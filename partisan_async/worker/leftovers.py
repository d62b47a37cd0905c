"""Describes what the project's import left behind that a fork would share or kill."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress

_WAY_OUT = "in a receiver of the signal worker_started, or set PRELOAD = False"


def threads() -> set[str]:
    """Return the names of all threads except the main one."""
    return {each.name for each in threading.enumerate()} - {threading.main_thread().name}


def tell_of_dead_threads(before: set[str]) -> str | None:
    """Return a sentence about the threads that the fork ended; ``None``: there are none.

    :param before: names of the threads before the fork.
    """
    # Compare after the fork: some libraries restart their threads in a child.
    if not (dead := before - threads()):
        return None
    return (
        f"in workers these threads do not run, which were started while the project was imported:"
        f" {', '.join(map(repr, sorted(dead)))}; start them {_WAY_OUT}"
    )


def tell_of_sockets(own: int) -> str | None:
    """Return a sentence about open sockets that workers would share; ``None``: there are none.

    :param own: file descriptor of the socket to the supervisor, which is left out.
    """
    if not (found := sorted(_sockets(own))):
        return None
    return (
        "all workers share what was opened while the project was imported:"
        f" {', '.join(found)}; open it {_WAY_OUT}"
    )


def _sockets(own: int) -> Iterator[str]:
    for number in map(int, os.listdir("/dev/fd")):
        with suppress(OSError):  # such as that of this listing
            if number != own and stat.S_ISSOCK(os.fstat(number).st_mode):
                with socket.socket(fileno=os.dup(number)) as opened:
                    yield from _describe(opened)


def _describe(opened: socket.socket) -> Iterator[str]:
    if opened.type != socket.SOCK_STREAM:
        return  # datagrams of several workers do not mix
    if opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        yield f"a listening socket on {_address(opened.getsockname())}"
    elif address := _address(opened.getpeername()):
        yield f"a connection to {address}"


def _address(name: object) -> str:
    # Socket pairs have no name; both ends are in this process.
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name or "")
