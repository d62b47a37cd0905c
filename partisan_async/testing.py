"""For tests of code that enqueues tasks: run them here and now, or beside the test for real."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import uvloop
from asgiref.sync import async_to_sync
from django.db import IntegrityError, connections, transaction
from psycopg.pq import TransactionStatus

from partisan_async import registry, store
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.models import WAITING, Task
from partisan_async.policy import Decision, decide
from partisan_async.processor import rules_of
from partisan_async.settings import DEFAULT_QUEUE_NAME, queue_settings
from partisan_async.supervisor import executor
from partisan_async.supervisor.supervisor import Supervisor

START_SECONDS = 60


@dataclasses.dataclass(frozen=True)
class Ran:
    """One run.

    :param task: the row after it.
    :param decision: what became of it; ``partisan_async.policy`` has the kinds.
    """

    task: Task
    decision: Decision


def run_pending(*, queue_name: str | None = None) -> list[Ran]:
    """Run all tasks that are due, in this process and transaction, and return what ran.

    Tasks that these enqueue, retry or postpone run too, as far as they are due by then. Policies
    are applied, and rows written, as by a supervisor. An error of a task does not rise: its row has
    it.

    :param queue_name: one queue alone; ``None``: every queue.
    """
    registry.autodiscover()
    alias = store.database()
    me = uuid.uuid4()
    ran = []
    while claims := _claim_next(alias, me, queue_name):
        ran += [_run(alias, me, claim) for claim in claims]
    _execute(alias, store.forget([me]))
    return ran


@contextmanager
def live_supervisor(
    queue_name: str = DEFAULT_QUEUE_NAME,
    *,
    listen: bool = True,
    beat_seconds: float = 0.5,
    ttl_seconds: float = 10,
    **settings: Any,
) -> Iterator[Supervisor]:
    """Run a supervisor with its worker processes on the test's database, beside the test.

    The test must commit, so it wants ``TransactionTestCase`` or ``django_db(transaction=True)``,
    and processors must be importable by the workers: in a ``partisan_tasks.py`` of an installed
    app.

    :param listen: as ``start_partisan --async``; else as without.
    :param settings: any of ``QueueSettings`` for this supervisor, such as ``WORKERS_COUNT=1``.
    """
    registry.autodiscover()
    chosen = dataclasses.replace(queue_settings(queue_name), **settings)
    supervisor = Supervisor(
        queue_name, chosen, listen=listen, beat_seconds=beat_seconds, ttl_seconds=ttl_seconds
    )
    thread = _SupervisorThread(supervisor)
    thread.start()
    try:
        thread.wait_until_started()
        yield supervisor
    finally:
        thread.stop()


class _SupervisorThread(threading.Thread):
    def __init__(self, supervisor: Supervisor) -> None:
        super().__init__(name="live supervisor", daemon=True)
        self._supervisor = supervisor
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._run())
        except BaseException as error:  # noqa: BLE001  it is raised in the test's thread
            self._error = error
        finally:
            self._ready.set()
            connections.close_all()

    def wait_until_started(self) -> None:
        if not self._ready.wait(START_SECONDS):
            raise TimeoutError(f"The supervisor was not up after {START_SECONDS} seconds.")
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        if self._loop is not None and self.is_alive():
            self._loop.call_soon_threadsafe(self._supervisor.stop)
        self.join()
        if self._error is not None:
            raise self._error

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        running = asyncio.ensure_future(self._supervisor.run())
        started = asyncio.ensure_future(self._supervisor.started.wait())
        await asyncio.wait({running, started}, return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if not running.done():
            self._ready.set()
        await running


_TTL = timedelta(minutes=1)


def _claim_next(alias: str, me: uuid.UUID, only: str | None) -> list[store.Claim]:
    """Claim one task that is due, by each queue's own order."""
    waiting = Task.objects.using(alias).filter(status__in=WAITING)
    names = [only] if only else waiting.values_list("queue_name", flat=True).distinct()
    for name in sorted(names):
        beat = store.beat(
            me,
            hostname="",
            process="{}",
            queue_name=name,
            ttl=_TTL,
            probe_channel="",
            nonce=None,
            known=(),
        )
        _execute(alias, beat)
        _execute(alias, store.promote(name))
        if claims := store.claims(_execute(alias, store.claim(me, name, 1, _TTL))):
            return claims
    return []


def _run(alias: str, me: uuid.UUID, claim: store.Claim) -> Ran:
    with _contained(alias):
        try:
            is_async = executor.is_async(registry.get(claim.processor_class))
        except ProcessorClassNotFound:
            is_async = False
        run = async_to_sync(executor.aexecute) if is_async else executor.execute
        outcome = run(claim)
    rules = rules_of(claim.processor_class, queue_settings(claim.queue_name))
    decision = decide(outcome, rules, claim.counters)
    _settle(alias, me, store.Settlement(claim, decision, (0.0, "run_pending")))
    return Ran(Task.objects.using(alias).get(pk=claim.id), decision)


def _settle(alias: str, me: uuid.UUID, settlement: store.Settlement) -> None:
    ((patience,),) = _execute(alias, store.Statement("SHOW lock_timeout", {}))
    try:
        with transaction.atomic(using=alias):
            _execute(alias, store.settle(me, [settlement]))
    except IntegrityError:  # an identical call waits by now
        _execute(alias, store.settle(me, [settlement], gently=True))
    # In a test's transaction the settle's own would stay.
    keep = "SELECT set_config('lock_timeout', %(patience)s, true)"
    _execute(alias, store.Statement(keep, {"patience": patience}))


@contextmanager
def _contained(alias: str) -> Iterator[None]:
    """In a test's transaction: an error of the database inside does not spoil what follows.

    What was written stays, also if it fails later, as it would without the test's transaction.
    """
    connection = connections[alias]
    if not connection.in_atomic_block:
        yield
        return
    with transaction.atomic(using=alias):
        yield
        if connection.connection.info.transaction_status == TransactionStatus.INERROR:
            transaction.set_rollback(True, using=alias)


def _execute(alias: str, statement: store.Statement) -> list[Any]:
    with connections[alias].cursor() as cursor:
        cursor.execute(*statement)
        return cursor.fetchall() if cursor.description else []
