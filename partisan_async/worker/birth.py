"""The program of a fresh interpreter that becomes a forkserver or a worker.

A *forkserver* sets itself up once, and forks a worker at each request. A *cold* worker sets itself
up alone. Both are first set up as the command was that started the supervisor. Nothing here imports
Django before the main script has run, since the script may patch what Django imports.
"""

from __future__ import annotations

import json
import os
import socket
import traceback
from collections.abc import Callable
from typing import NoReturn

from partisan_async.worker.messages import receive
from partisan_async.worker.origin import Origin
from partisan_async.worker.taking_on import TakenOn, take_on


def forkserver(number: int) -> NoReturn:
    """Fork workers, as the supervisor at the other end of this socket asks."""
    control = socket.socket(fileno=number)

    def become(taken: TakenOn) -> NoReturn:
        from partisan_async.worker.forking import fork_workers  # it imports Django

        fork_workers(control, taken)

    _take_on(control, become)


def cold(number: int, feed: int, link: int) -> NoReturn:
    """Be the one worker that the supervisor at the other end of this socket asks for."""
    control = socket.socket(fileno=number)

    def become(taken: TakenOn) -> NoReturn:
        from partisan_async.worker.start import work  # it imports Django

        setup = _next_of(control)
        control.close()
        work(feed, link, setup, taken)

    _take_on(control, become)


def _take_on(control: socket.socket, become: Callable[[TakenOn], NoReturn]) -> NoReturn:
    def become_or_end(taken: TakenOn) -> NoReturn:
        try:
            become(taken)
        except BaseException:  # noqa: BLE001  nobody else would print it
            traceback.print_exc()
            # Exit at once. An exception would reach the frames of the main script; and Python's own
            # exit waits for threads, while the open link makes the supervisor send tasks.
            os._exit(1)

    take_on(Origin(*json.loads(_next_of(control))), become_or_end)


def _next_of(control: socket.socket) -> bytes:
    received = receive(control)
    if received is None:  # the supervisor is gone
        os._exit(1)
    return received[0]
