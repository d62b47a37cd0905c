"""The parts of a supervisor, and how they are wired: each part gets parts that were made before it.

The *lease* says whether rows may be started, and the *agenda* what there may be to do. These two
use no other part, so all others can get them.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from django.db import connections

from partisan_async import store
from partisan_async.settings import QueueSettings
from partisan_async.supervisor.agenda import Agenda
from partisan_async.supervisor.claimer import Claimer
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.dispatcher import Dispatcher
from partisan_async.supervisor.endings import Endings
from partisan_async.supervisor.heartbeat import Heartbeat
from partisan_async.supervisor.lease import Lease
from partisan_async.supervisor.once import Once
from partisan_async.supervisor.pruner import Pruner
from partisan_async.supervisor.report.counts import Counts
from partisan_async.supervisor.report.health import Health
from partisan_async.supervisor.report.service_manager import ServiceManager
from partisan_async.supervisor.report.tally import Tally
from partisan_async.supervisor.settler import Settler
from partisan_async.supervisor.status import Status
from partisan_async.supervisor.stop import Stop
from partisan_async.supervisor.successes import Successes
from partisan_async.supervisor.ticker import Ticker
from partisan_async.supervisor.timetable import Timetable
from partisan_async.supervisor.unserved import Unserved
from partisan_async.supervisor.wakeup import Wakeup
from partisan_async.unique import has_windows
from partisan_async.worker.setup import Setup

if TYPE_CHECKING:
    from partisan_async.supervisor.report.metrics import Metrics


class Plan(NamedTuple):
    """The parameters of a supervisor; see ``Supervisor``."""

    id: UUID
    queue_name: str
    settings: QueueSettings
    listen: bool
    beat_seconds: float
    ttl_seconds: float
    print_logs: bool
    health: socket.socket | None
    home: str | None
    once: bool
    retries: bool


class Connections(NamedTuple):
    """The connections of the parts: shared ones, and those that one part has for itself."""

    claim: Connection
    settle: Connection
    beat: Connection
    prune: Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of one supervisor, in the order in which they are made."""

    connections: Connections
    lease: Lease
    agenda: Agenda
    stop: Stop
    ticker: Ticker
    wakeup: Wakeup | None
    counts: Counts
    tally: Tally
    settler: Settler
    successes: Successes
    timetable: Timetable
    endings: Endings
    dispatcher: Dispatcher
    claimer: Claimer
    status: Status
    heartbeat: Heartbeat
    pruner: Pruner
    unserved: Unserved
    metrics: Metrics | None
    health: Health | None
    once: Once | None


def assemble(plan: Plan) -> Parts:
    """Make the parts."""
    me, name, settings = plan.id, plan.queue_name, plan.settings
    opened = _connections(plan)
    lease, agenda, service = Lease(_ttl(plan)), Agenda(), ServiceManager()
    stop = Stop(lease, service)
    ticker = Ticker(me, name, opened.beat, ttl=lease.ttl)
    wakeup = _wakeup(plan, agenda, lease, ticker)
    with_metrics = plan.health is not None and find_spec("prometheus_client") is not None
    counts = Counts(with_spreads=with_metrics)
    settler = _settler(plan, opened.settle, agenda)
    successes = Successes(opened.beat, settler, watches=bool(ticker.keys))
    timetable = Timetable(name, opened.beat, ttl=lease.ttl, on_first=successes.watch)
    endings = Endings(settings, settler, counts)
    setup = Setup(resolved_databases(), plan.print_logs, me, settings)
    dispatcher = Dispatcher(name, settings, setup, lease, agenda, settler, endings)
    claimer = Claimer(me, name, settings, opened.claim, lease, agenda, dispatcher, wakeup)
    status = Status(name, lease, dispatcher, stop, service)
    heartbeat = Heartbeat(
        *(me, name, opened.beat, lease, agenda, wakeup, dispatcher, claimer, stop, status),
        timetable,
        every=timedelta(seconds=plan.beat_seconds),
        home=plan.home,
    )
    watched = (claimer, dispatcher, settler, agenda, stop)
    shown = (counts, lease, dispatcher, settler, wakeup)
    metrics = _metrics(plan, shown, ticker, timetable) if with_metrics else None
    return Parts(
        connections=opened,
        lease=lease,
        agenda=agenda,
        stop=stop,
        ticker=ticker,
        wakeup=wakeup,
        counts=counts,
        tally=Tally(name, opened.beat, counts),
        settler=settler,
        successes=successes,
        timetable=timetable,
        endings=endings,
        dispatcher=dispatcher,
        claimer=claimer,
        status=status,
        heartbeat=heartbeat,
        pruner=_pruner(plan, opened.prune),
        unserved=Unserved(name, opened.beat, lease),
        metrics=metrics,
        health=_health(plan, heartbeat, status, metrics),
        once=_once(plan, watched, opened.beat, (ticker, timetable)),
    )


def resolved_databases() -> dict[str, dict[str, Any]]:
    """Return the databases that this process uses, so that its workers use the same."""
    keys = ("NAME", "USER", "PASSWORD", "HOST", "PORT")
    return {
        alias: {key: connections[alias].settings_dict[key] for key in keys} for alias in connections
    }


def _ttl(plan: Plan) -> timedelta:
    return timedelta(seconds=plan.ttl_seconds)


def _connections(plan: Plan) -> Connections:
    alias, name, ttl = store.database(), plan.queue_name, _ttl(plan)
    return Connections(
        claim=Connection(alias, f"{name} claim", patience=ttl, prepares=True),
        settle=Connection(alias, f"{name} settle", patience=ttl, prepares=True),
        beat=Connection(alias, f"{name} beat", patience=ttl / 3),
        prune=Connection(alias, f"{name} prune", patience=ttl),
    )


def _wakeup(plan: Plan, agenda: Agenda, lease: Lease, ticker: Ticker) -> Wakeup | None:
    if not plan.listen:
        return None
    dsn = plan.settings.LISTEN_DSN
    return Wakeup(store.database(), plan.queue_name, agenda, lease, ticker, dsn)


def _once(
    plan: Plan,
    watched: tuple[Claimer, Dispatcher, Settler, Agenda, Stop],
    connection: Connection,
    schedules: tuple[Ticker, Timetable],
) -> Once | None:
    if not plan.once:
        return None
    return Once(plan.queue_name, *watched, connection, schedules, retries=plan.retries)


def _settler(plan: Plan, connection: Connection, agenda: Agenda) -> Settler:
    return Settler(
        plan.id,
        connection,
        delete_finished=plan.settings.DELETE_TASKS_ON_COMPLETE,
        on_settled=agenda.on_settled,
        on_room=agenda.on_room,
    )


def _pruner(plan: Plan, connection: Connection) -> Pruner:
    settings = plan.settings
    return Pruner(
        *(plan.queue_name, settings.KEEP_FINISHED_SECONDS, connection),
        keep_failed_seconds=settings.KEEP_FAILED_SECONDS,
        with_windows=has_windows(),
    )


def _metrics(
    plan: Plan,
    shown: tuple[Counts, Lease, Dispatcher, Settler, Wakeup | None],
    ticker: Ticker,
    timetable: Timetable,
) -> Metrics:
    # Imported here: it needs prometheus_client.
    from partisan_async.supervisor.report.families import Families
    from partisan_async.supervisor.report.metrics import Metrics
    from partisan_async.supervisor.report.punctual import Punctual
    from partisan_async.supervisor.report.queue_depth import QueueDepth

    name, workers = plan.queue_name, plan.settings.WORKERS_COUNT
    families = Families(name, workers, *shown)
    depth = QueueDepth(store.database(), name)
    return Metrics(families, depth, Punctual(name, depth.connection, ticker, timetable))


def _health(
    plan: Plan, heartbeat: Heartbeat, status: Status, metrics: Metrics | None
) -> Health | None:
    if plan.health is None:
        return None
    return Health(
        plan.health,
        ailment=heartbeat.ailment,
        hindrance=status.hindrance,
        show=None if metrics is None else metrics.show,
    )
