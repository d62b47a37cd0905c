"""A worker process: runs the tasks it is sent, and reports each as it starts and ends.

Three threads. The *main* thread reads the feed and runs sync tasks, one after the other. The *loop*
thread runs async tasks side by side. The *link* thread answers ``Revoke`` also while ``run()``
blocks the main thread, and ends the process when the supervisor is gone.
"""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import io
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, NoReturn
from uuid import UUID

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.db import connections

from partisan_async import logs, registry
from partisan_async.claim import Claim
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.policy import Failure, Outcome, Raised
from partisan_async.settings import QueueSettings
from partisan_async.worker import ending, preload, runs, sessions, wire
from partisan_async.worker.arrangements import undo_in_children
from partisan_async.worker.origin import TakenOn, describe


class Setup(NamedTuple):
    """What a worker must know that its environment does not tell.

    :param databases: resolved settings per alias, so that under a test they are the test's.
    :param print_logs: print log lines where no logging is configured.
    :param supervisor_id: whose claims it runs.
    :param settings: the queue's.
    """

    databases: Mapping[str, Mapping[str, Any]]
    print_logs: bool
    supervisor_id: UUID
    settings: QueueSettings

    def encoded(self) -> bytes:
        """Return it as text for another process."""
        settings = dataclasses.asdict(self.settings)
        fields = [dict(self.databases), self.print_logs, self.supervisor_id, settings]
        return json.dumps(fields, default=str).encode()  # a name may be a path

    @classmethod
    def decoded(cls, text: bytes) -> Setup:
        """Return what ``encoded`` made the text of."""
        databases, print_logs, supervisor_id, settings = json.loads(text)
        return cls(databases, print_logs, UUID(supervisor_id), QueueSettings(**settings))


def start(feed: socket.socket, link: socket.socket, setup: Setup, taken: TakenOn) -> None:
    """Make this process a worker.

    :param taken: what became of setting it up as the command was.
    """
    global _worker
    # A default timeout of the site's would make a silent link look like a dead supervisor.
    feed.setblocking(True)
    link.setblocking(True)
    try:
        if taken.trouble:
            raise ImportError(taken.trouble)
        if not preload.is_done:
            preload.warm_up()
        _print_whole_lines()
        _use_databases(setup.databases)
        if setup.print_logs:
            logs.handlers.attach()
        logs.fields.serve_here(None, str(setup.supervisor_id))
        _worker = _Worker(feed, link, setup)
        undo_in_children(_worker.leave, _worker.limits.forget_alarm, sessions.unwatch)
        _tell_of_start()
    except BaseException as error:
        trouble = taken.trouble or describe(error)
        link.sendall(wire.encode(wire.Hello(os.getpid(), trouble, None)))
        raise
    threading.Thread(target=_worker.attend_link, name="partisan link", daemon=True).start()
    _worker.send(wire.encode(wire.Hello(os.getpid(), None, taken.note)))


def _tell_of_start() -> None:
    # Before the hello: a receiver that blocks is to keep no task, and is given up as any start.
    from partisan_async.signals import tell, worker_started

    tell(worker_started, "worker_started", None)
    # What its receivers asked of the database is no task's.
    sessions.tidy(sessions.close_all)


def serve() -> NoReturn:
    """Run what comes by the feed, then end this process in order."""
    assert _worker is not None
    from partisan_async.signals import tell, worker_stopping

    _worker.serve()
    ending.end(partial(tell, worker_stopping, "worker_stopping", None))


_worker: _Worker | None = None


class _Worker:
    def __init__(self, feed: socket.socket, link: socket.socket, setup: Setup) -> None:
        # It imports the models: Django had to be set up first.
        from partisan_async.worker import executor, limits

        limits.watch_connections()
        sessions.watch()
        self.limits = limits
        self._executor = executor.Executor(
            setup.supervisor_id, setup.settings, f"{socket.gethostname()}/{os.getpid()}"
        )
        self._claim_of = Claim._make
        self._is_async = executor.is_async
        self._limit_of = executor.time_limit
        self._ways: dict[str, tuple[bool, float | None]] = {}
        self._feed = feed
        self._link = link
        self._loop: asyncio.AbstractEventLoop | None = None
        # Guards the link's writing side and the two numbers: "started" and "revoked" must reach the
        # supervisor in the order in which they were decided.
        self._lock = threading.Lock()
        self._current = 0
        self._barrier = 0

    def serve(self) -> None:
        """Run what comes, and return when the supervisor has this process end in order."""
        with self._feed.makefile("rb") as feed:
            for batch in wire.unpack(feed):
                if not batch:
                    return
                self._work(batch)
        os._exit(1)

    def _work(self, batch: wire.Tasks) -> None:
        """Run sync tasks to their end, async ones until they have started."""
        frames = b""
        sessions.tidy(sessions.close_old)
        for ticket, fields in batch:
            claim = self._claim_of(fields)
            is_async, limit = self._way_of(claim.processor_class)
            if is_async:
                running = self._arun(ticket, claim, limit)
                asyncio.run_coroutine_threadsafe(running, self._running_loop())
                continue
            with self._lock:
                if ticket <= self._barrier:
                    continue
                self._current = ticket
                self._link.sendall(frames + wire.encode(wire.Started(ticket, limit)))
            frames, overran = self._run(ticket, claim, limit)
            if overran:
                # An error that came out of nowhere may have left locks and threads behind in this
                # process: it starts no other.
                with self._lock:
                    upto = self._barrier = max(self._barrier, batch[-1][0])
                    self._link.sendall(frames + wire.encode(wire.Revoked(ticket, upto)))
                return
        if frames:
            with self._lock:
                self._link.sendall(frames)

    def send(self, data: bytes) -> None:
        self._executor.end_forks()  # on the event loop it takes the other tasks along
        with self._lock:
            self._link.sendall(data)

    def attend_link(self) -> None:
        decoder = wire.Decoder()
        while True:
            try:
                data = self._link.recv(65536)
            except OSError:
                data = b""
            if not data:
                if ending.begun.is_set():
                    return  # it is bounded in time
                # The supervisor is gone, and with it the only one who could settle what runs here.
                os._exit(1)
            for frame in decoder.feed(data):
                assert isinstance(frame, wire.Revoke)
                with self._lock:
                    self._barrier = max(self._barrier, frame.upto)
                    answer = wire.Revoked(self._current, frame.upto)
                    self._link.sendall(wire.encode(answer))

    def leave(self) -> None:
        """In a child that a task forked: close what is its parent's."""
        for each in (self._feed, self._link):
            with suppress(OSError):  # the task may have done so
                os.close(each.detach())

    def _run(self, ticket: int, claim: Any, limit: float | None) -> tuple[bytes, bool]:
        alarm = self.limits.Alarm(limit)
        run = runs.begin()
        began = time.perf_counter()
        try:
            # A context of its own, so that a language or a context variable set by one task is not
            # there in the next.
            outcome = contextvars.copy_context().run(self._executor.execute, claim, alarm)
        except BaseException as error:  # noqa: BLE001  what it raised could not even be looked at
            outcome = _untold(error)
        alarm.stop()
        self._executor.end_forks()
        seconds = time.perf_counter() - began
        if alarm.rang:
            # Wherever it struck, no connection can be trusted to be where Django believes it.
            sessions.tidy(sessions.forget_all)
        failed = isinstance(outcome, Raised)
        sessions.tidy(sessions.end_run, claim, run, failed)
        runs.end(run, failed=failed)
        return _done(ticket, seconds, alarm.rang, outcome), alarm.rang

    async def _arun(self, ticket: int, claim: Any, limit: float | None) -> None:
        began = time.perf_counter()
        outcome: Outcome | None = None
        run = runs.begin()
        try:
            # Each in a context of its own, as Django's ASGI handler does: else all of them would
            # share one thread and one connection for the ORM.
            async with ThreadSensitiveContext() as context:
                self._executor.end_forks()
                with self._lock:
                    if ticket <= self._barrier:
                        return
                    self._link.sendall(wire.encode(wire.Started(ticket, limit)))
                outcome = await self._executor.aexecute(claim, limit)
                self._executor.end_forks()
                if context in SyncToAsync.context_to_thread_executor:
                    close = partial(sessions.close_all, failed=isinstance(outcome, Raised))
                    await self.limits.finish(sync_to_async(sessions.tidy)(close))
        except BaseException as error:  # noqa: BLE001  a late cancellation too: it must be told
            outcome = outcome or _untold(error)
        finally:
            runs.end(run, failed=isinstance(outcome, Raised))
        seconds = time.perf_counter() - began
        overran = limit is not None and seconds >= limit
        self.send(_done(ticket, seconds, overran, outcome))

    def _way_of(self, name: str) -> tuple[bool, float | None]:
        """Return whether a processor's runs are async, and how many seconds each may take."""
        way = self._ways.get(name)
        if way is None:
            try:
                processor_class = registry.get(name)
            except ProcessorClassNotFound:
                return False, None  # not kept: rows may name any number of them
            is_async, limit = self._is_async(processor_class), None
            with suppress(TypeError):  # what is no limit, the system check tells of
                limit = self._limit_of(
                    processor_class, self._executor.settings.DEFAULT_TIMEOUT_SECONDS
                )
            way = self._ways[name] = is_async, limit
        return way

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._loop.set_default_executor(_Threads(thread_name_prefix="partisan thread"))
            target = _run_for_ever
            args = (self._loop,)
            threading.Thread(target=target, args=args, name="partisan loop", daemon=True).start()
        return self._loop


class _Threads(ThreadPoolExecutor):
    """Where async tasks' ``asyncio.to_thread`` and the like go: no call leaves a connection."""

    def submit(self, call: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        def tidily() -> Any:
            try:
                return call(*args, **kwargs)
            finally:
                sessions.tidy(sessions.close_all)

        return super().submit(tidily)


def _run_for_ever(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    while True:
        try:
            loop.run_forever()
        except BaseException as error:  # noqa: BLE001  it is logged
            # A SystemExit in a task that run() itself created passes through run_forever().
            logs.workers.loop_interrupted(error)


def _print_whole_lines() -> None:
    # And at once: into a pipe they would come when the process ends, or with PYTHONUNBUFFERED in
    # pieces, with lines of the supervisor's between them.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, write_through=False)


def _use_databases(databases: Mapping[str, Mapping[str, Any]]) -> None:
    for alias, resolved in databases.items():
        settings = connections.settings[alias]
        settings.update(resolved)
        if not settings["OPTIONS"].get("pool"):
            # To connect anew for each task costs several times what a small task does.
            settings["CONN_MAX_AGE"] = settings["CONN_MAX_AGE"] or None
        # No browser repeats a task that met a connection which a restarted server had closed.
        settings["CONN_HEALTH_CHECKS"] = True


def _untold(error: BaseException) -> Outcome:
    failure = Failure(type(error).__name__, "What became of this task could not be told.")
    return Raised(failure, retryable=False)


def _done(ticket: int, seconds: float, overran: bool, outcome: Outcome) -> bytes:
    microseconds = int(seconds * 1e6)
    try:
        return wire.encode(wire.Done(ticket, microseconds, overran, outcome))
    except BaseException as error:  # noqa: BLE001  an outcome that is no plain data after all
        return wire.encode(wire.Done(ticket, microseconds, overran, _untold(error)))
