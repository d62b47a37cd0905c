"""Turns this process into a worker, step by step, and runs it until its end."""

from __future__ import annotations

import io
import os
import socket
import sys
from typing import TYPE_CHECKING, NoReturn

from partisan_async import logs
from partisan_async.worker import arrangements, async_queries, attended, preload, used_caches, wire
from partisan_async.worker.alarm import forget_alarm
from partisan_async.worker.databases import use_databases
from partisan_async.worker.setup import Setup
from partisan_async.worker.taking_on import TakenOn, describe

if TYPE_CHECKING:
    from partisan_async.worker.main import Worker


def work(feed: int, link: int, setup: bytes, taken: TakenOn) -> NoReturn:
    """Run as a worker.

    :param feed, link: file descriptors of the worker's sockets.
    :param setup: an encoded ``Setup``.
    :param taken: result of setting this process up as the command was.
    """
    pair = socket.socket(fileno=feed), socket.socket(fileno=link)
    worker = _start(*pair, Setup.decoded(setup), taken)
    # Call it here: receivers of worker_started are project code, which may set signal handlers.
    arrangements.outlive_stop_signals()
    worker.serve()


def _start(feed: socket.socket, link: socket.socket, setup: Setup, taken: TakenOn) -> Worker:
    # With a default timeout set by the site, a silent link would look like a dead supervisor.
    feed.setblocking(True)
    link.setblocking(True)
    try:
        if taken.trouble:
            raise ImportError(taken.trouble)
        worker = _made(feed, link, setup)
    except BaseException as error:
        trouble = taken.trouble or describe(error)
        link.sendall(wire.encode(wire.Hello(os.getpid(), trouble, None)))
        raise
    worker.link.attend()
    worker.link.send(wire.encode(wire.Hello(os.getpid(), None, taken.note)))
    return worker


def _made(feed: socket.socket, link: socket.socket, setup: Setup) -> Worker:
    if not preload.is_done:
        preload.warm_up()
    _print_whole_lines()
    use_databases(setup.databases)
    if setup.print_logs:
        logs.handlers.attach()
    logs.fields.serve_here(None, str(setup.supervisor_id))
    async_queries.watch_connections()
    attended.watch()
    used_caches.watch()
    from partisan_async.worker.main import Worker  # it imports the models, so Django must be set up

    worker = Worker(feed, link, setup)
    arrangements.undo_in_children(worker.leave, forget_alarm, attended.unwatch)
    worker.tell_of_start()
    return worker


def _print_whole_lines() -> None:
    # Into a pipe, Python writes only when a buffer is full or the process ends; with
    # PYTHONUNBUFFERED it writes pieces of lines, which mix with lines of the supervisor.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, write_through=False)
